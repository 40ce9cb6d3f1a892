"""Where noise models that earlier runs stored in MLflow look for three modules; `nullspace/` puts it on its path.

May import: the modules the three names stand for. May not import: anything else.
Do not import it: new code uses `from nullspace import …`.
"""
