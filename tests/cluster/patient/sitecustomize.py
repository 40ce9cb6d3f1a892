"""Imported by Python as it starts: `ray start` gives its node 30 seconds and has no setting for it; here it waits."""

import sys

if "start" in sys.orig_argv and any(word.endswith("/ray") for word in sys.orig_argv):
    from pipelines.engine.machines.ray_start import patient_start

    patience = patient_start()  # kept: it would end with the last reference to it
    patience.__enter__()
