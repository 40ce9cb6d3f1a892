"""Watermarks in the kernel of the patch embedding: people (or a decoder) see them, the model does not.

Here: what both kinds of mark share. `visible/` puts a logo or text on images, `payload/` hides messages in them.
May import: model, metrics, kernel, pixels.
May not import: noise, subspace.
"""
