"""Attacks: the smallest changes of pixels that change a prediction, found by gradients or by chance.

May import: model, metrics, kernel, pixels.
May not import: corruptions, noise, subspace, watermark, fooling, attribution.
"""
