"""What else changes a prediction: attacks and corruptions, beside which null noise is measured.

May import: model, metrics, kernel, pixels, subspace.
May not import: noise, watermark, fooling, attribution.
"""
