"""Reference: what each model says about every clean image, and whether the labels can be right.

May import: engine, data.
May not import: another stage.
"""
