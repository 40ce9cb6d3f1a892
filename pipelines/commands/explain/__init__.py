"""`nullspace explain`: what a prediction rests on, laid over the picture, before and after noise.

May import: pictures, engine, evaluations' words for maps.
May not import: workflow, stages.
"""
