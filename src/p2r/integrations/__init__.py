"""p2r inside of other evaluation tools. Each module belongs to one tool, which finds it by an entry point; no other
room imports it.
"""
