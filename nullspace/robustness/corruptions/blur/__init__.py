"""Blurs: Gaussian, out of focus, by motion, by zooming, behind frosted glass.

May import: model, metrics, kernel, pixels.
May not import: noise, subspace, watermark, fooling, attribution.
"""
