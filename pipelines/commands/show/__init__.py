"""`nullspace show`: what a model sees of noise on the user's own pictures, as a page.

May import: pictures, data, engine.
May not import: workflow, stages, evaluations.
"""
