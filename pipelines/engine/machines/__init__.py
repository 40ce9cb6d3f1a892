"""Where the work runs: Ray on this machine or on a cluster, how it is started, and how models share it in lanes.

May import: engine's settings, interrupts and workers.
May not import: stages, evaluations, report, tracking.
"""
