"""What is nearly invisible, as a subspace: Jacobians, sensitivity, closure under scaling and addition.

May import: model, metrics, noise.
May not import: kernel, pixels, watermark.
"""
