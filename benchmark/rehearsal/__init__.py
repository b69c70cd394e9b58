"""A sweep in small, where it would run, before anyone spends the hours: does it fit, and what will it take?"""
