"""All that a run can be told: its sections put together, read from YAML and --set; and the shipped files.

May import: the settings of engine, data, stages and evaluations.
May not import: anything that does work.
"""
