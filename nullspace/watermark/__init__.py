"""Watermarks in the kernel of the patch embedding: people (or a decoder) see them, the model cannot.

`visible` puts a logo or text on images; `texture` finds what of it the kernel lets through.
"""
