"""Does the synthetic table obey the rules that the real one obeys?"""
