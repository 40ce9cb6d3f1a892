"""Maps that say which pixels or tokens a prediction rests on, and how alike two of them are.

May import: model, metrics, kernel, pixels, fooling.
May not import: noise, subspace, watermark.
"""
