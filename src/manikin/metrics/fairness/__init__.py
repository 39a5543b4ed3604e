"""Does the synthetic table treat every group of patients alike?"""
