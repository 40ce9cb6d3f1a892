"""Hidden messages: bits embedded in the kernel, and read again after compression, noise and small shifts.

May import: model, kernel, pixels, and the modules of watermark/.
May not import: visible, noise, subspace.
"""
