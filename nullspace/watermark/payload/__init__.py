"""Hidden messages: bits written into the kernel, and read again after compression, noise and small shifts.

May import: model, kernel, pixels, and what stands in watermark/.
May not import: visible, noise, subspace.
"""
