"""`nullspace fool`: a picture that people see as one thing and the model as another.

May import: pictures, engine, evaluations' picture quality.
May not import: workflow, stages.
"""
