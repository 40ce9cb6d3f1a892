"""Search: Tune looks for the noise that may be largest before the model notices, and its scale is calibrated.

May import: engine, data, tracking's trials, report's parts.
May not import: another stage.
"""
