"""The page, its parts and figures, and the same figures as tables on a terminal.

May import: engine's facts, and nothing that does work.
May not import: stages, evaluations, workflow: sections come to it.
"""
