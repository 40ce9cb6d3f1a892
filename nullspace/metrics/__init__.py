"""What noise does to outputs, and how large it is: norms, controls, outcomes with intervals, bounds, the null radius.

May import: model.
May not import: the folders that make noise; a measure does not know how its noise was obtained.
"""
