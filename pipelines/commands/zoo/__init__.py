"""`nullspace zoo`: the exact kernel of every timm model of a name, as a table.

May import: what commands may.
May not import: another command's folder.
"""
