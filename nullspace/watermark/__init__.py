"""Watermarks in the kernel of the patch embedding: people (or a decoder) see them, the model cannot.

`visible` puts a logo or text on images; `carrier` finds the look that the kernel lets through.
"""
