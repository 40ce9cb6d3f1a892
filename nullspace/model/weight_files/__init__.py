"""Weights read out of a file: which kind of file it is, its tensors, and what their shapes say; no code in it runs.

May import: nullspace.errors.
May not import: the rest of model/, which builds the model, or any other folder.
"""
