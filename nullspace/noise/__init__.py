"""What is nearly invisible, as one tensor: learned, compared with the published algorithms, scaled, kept in a file.

May import: model, metrics.
May not import: kernel, pixels, subspace, watermark; it works in tokens.
"""
