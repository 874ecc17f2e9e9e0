"""The commands of `python -m mlm`: the arguments of each, and one call.

What a command needs is imported when its arguments are known to be sound.
"""
