"""What is exactly invisible: the kernel of the patch embedding, on files too, and the shift of pre-LayerNorm encoders.

May import: model, metrics.
May not import: pixels, noise, subspace, watermark.
"""
