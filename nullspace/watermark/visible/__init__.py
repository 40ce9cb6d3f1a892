"""Visible marks: texture that people read and the model does not see, on model-sized images and on files.

May import: model, kernel, pixels, and the modules of watermark/.
May not import: payload, noise, subspace.
"""
