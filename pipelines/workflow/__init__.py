"""One run from its config to its results: the plan, finishing stages, the work folder, results.json, the page.

May import: every folder but commands.
May not import: commands.
"""
