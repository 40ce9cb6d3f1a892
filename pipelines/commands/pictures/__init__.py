"""Single picture files of the user: finding, opening, marking and writing them.

May import: data, engine, and commands' options and messages.
May not import: workflow, stages.
"""
