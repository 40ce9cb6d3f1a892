"""Images from a source to shards: sources, decoding, shards, and which images are for what.

May import: errors, files and digits.
May not import: engine, stages, evaluations.
"""
