"""Visible marks: texture that people read and the model cannot see, on model-sized images and on files.

May import: model, kernel, pixels, and what stands in watermark/.
May not import: payload, noise, subspace.
"""
