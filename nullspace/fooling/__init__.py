"""Fooling the network: pictures that people see as one image and the model as another.

May import: model, metrics, kernel, pixels.
May not import: noise, subspace, watermark.
"""
