"""What a stage is, and how its work is spread over machines: Ray, workers, lanes, progress, failures.

May import: data.
May not import: stages, evaluations, report, tracking; it knows no stage by name.
"""
