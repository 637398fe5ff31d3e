"""Models: in this process (`local`), behind a server (`endpoint`), or scripted; `base.load_model` finds the right
one.
"""
