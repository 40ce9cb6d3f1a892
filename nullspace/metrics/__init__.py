"""What noise does to outputs, and how large it is: data, norms, controls, outcomes with intervals, bounds, the radius.

May import: model.
May not import: the folders that make noise; a measure does not know how its noise was obtained.
"""
