"""How a model bears natural changes of its images: the corruptions of ImageNet-C, and the mean error under them.

May import: model, metrics, kernel, pixels.
May not import: noise, subspace, watermark, fooling, attribution.
"""
