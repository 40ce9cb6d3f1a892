"""A timm Vision Transformer cut at its patch embedding: weights, names, preprocessing, patches, encoder, device.

May import: nullspace.errors and nullspace.paths.
May not import: any other folder; everything else rests on this one.
"""
