"""Back to valid pixels: projection into kernel and pixel range, lifting of token noise, rounding to 8 bits.

May import: model, metrics, kernel.
May not import: noise, subspace, watermark; what is lifted comes as a tensor.
"""
