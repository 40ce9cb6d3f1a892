"""Ingest: a source becomes shards of decoded images, once per preprocessing.

May import: engine, data.
May not import: another stage.
"""
