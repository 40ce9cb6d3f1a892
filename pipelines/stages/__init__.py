"""What has to be made before questions can be asked: ingest, reference, kernel, search.

May import: engine, data, tracking's trials, report's parts.
May not import: evaluations, workflow, commands.
"""
