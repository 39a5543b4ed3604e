"""Do analyses of the synthetic table reach the real conclusions?"""
