"""Does the synthetic table give a training subject away?"""
