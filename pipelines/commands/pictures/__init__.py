"""Single picture files of a user: found, opened as a model reads them, marked, written beside the original.

May import: data, engine, and commands' options and messages.
May not import: workflow, stages.
"""
