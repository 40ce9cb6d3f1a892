"""MLflow: the one writer, its patience and its watchdog, runs of stages, models and trials, registered versions.

May import: engine, data's settings.
May not import: stages, evaluations, report, workflow.
"""
