"""The 15 corruptions of ImageNet-C at 5 severities, made in memory: the same pixels for an image's id anywhere.

May import: model, metrics, kernel, pixels.
May not import: noise, subspace, watermark, fooling, attribution.
"""
