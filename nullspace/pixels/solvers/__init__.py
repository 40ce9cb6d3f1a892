"""Solvers on tensors: bounded least squares, projection onto kernel and box, a linear programme, smallest change.

May import: kernel's solvers.
May not import: the rest of pixels/, which states the problems; they know nothing of images or models.
"""
