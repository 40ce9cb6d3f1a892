"""One row of MLflow's table for each model: its parameters and headline figures, by the same names for every model.

With one model that row is the run of the pipeline; with several each has a run of its own below it, which holds the
model's stages, and the pipeline's run holds no figures: they would be those of one of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from pipelines.engine.interrupts import was_interrupted
from pipelines.engine.models import ModelFacts
from pipelines.engine.stage import Done, Stage
from pipelines.tracking.connection.store import WRITE_ERRORS
from pipelines.tracking.stage_runs import fail, flat_metrics
from pipelines.tracking.tracker import KIND, MODEL, Tracker


def headlines(stages: Mapping[str, Stage], done: Mapping[str, Done]) -> dict[str, float]:
    """The figures by which models are compared, as their stages name them; those that do not exist are left out."""
    found: dict[str, float] = {}
    for name, stage in stages.items():
        figures = dict(flat_metrics(done[name].result))
        found |= {metric: figures[place] for metric, place in stage.headlines.items() if place in figures}
    return {**found, "seconds": sum(each.seconds for each in done.values())}


def model_params(facts: ModelFacts) -> dict[str, Any]:
    """What tells one model from another, as columns of MLflow's table."""
    return {
        "model": facts.spec.name,
        "weights": facts.source,
        "weights_sha256": facts.spec.weights_sha256,
        "input_size": facts.preprocessing.input_size,
        "patches": facts.num_patches,
        "embed_dim": facts.embed_dim,
        "classes": facts.num_classes,
    }


def model_tags(facts: ModelFacts) -> dict[str, str]:
    """Of every run that is the row of a model; MLflow finds them all by tags.`nullspace.kind` = 'model'."""
    return {KIND: "model", MODEL: facts.spec.name}


@contextmanager
def model_run(tracker: Tracker, parent_id: str, facts: ModelFacts, *, alone: bool) -> Iterator[str]:
    """The id of the run that is this model's row, ended with its true status unless it is the pipeline's own."""
    if alone:
        tracker.tags(parent_id, model_tags(facts))
        tracker.params(parent_id, model_params(facts))
        yield parent_id
        return
    run_id = tracker.begin_branch(
        parent_id, branch=facts.spec.label, tags=model_tags(facts), params=model_params(facts)
    )
    try:
        yield run_id
    except Exception as error:  # whatever interrupts the whole run closes what is below it
        with suppress(*WRITE_ERRORS):
            tracker.close_children(run_id, "KILLED" if was_interrupted() else "FAILED")
        fail(tracker, run_id, error)
        raise
    tracker.end(run_id, "FINISHED")
