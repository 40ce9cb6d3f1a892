"""A static site that compares the models of many runs: what may stand in one table, its pages, its data for programs.

It reads finished runs as they lie in their work folders. May import report and workflow; must not import commands.
"""
