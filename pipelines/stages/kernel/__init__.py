"""Kernel: the exact nullspace of the patch embedding, and whether the encoder ignores shifts.

May import: engine, data, report's parts.
May not import: another stage.
"""
