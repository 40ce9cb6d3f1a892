"""Stages of a run finished, one after the other: reused or made, accepted, recorded in MLflow."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from pipelines.configs.pipeline import PipelineConfig
from pipelines.engine.failure import one_line
from pipelines.engine.machines.compute import Compute
from pipelines.engine.machines.lanes import WHOLE, Share
from pipelines.engine.progress import Progress
from pipelines.engine.stage import Done, Stage, do_stage, find_done
from pipelines.files import write_text
from pipelines.tracking import stage_runs
from pipelines.tracking.datasets import dataset_of
from pipelines.tracking.tracker import Tracker


@dataclass
class Run:
    """One pipeline run under way."""

    config: PipelineConfig
    workdir: Path
    tracker: Tracker
    run_id: str
    progress: Progress
    compute: Compute
    source_digest: str
    done: dict[str, Done] = field(default_factory=dict)
    """Finished stages by the names of their folders."""
    model_runs: dict[str, str] = field(default_factory=dict)
    """The run in MLflow that holds a model's figures, by the model's label."""

    def finish(self, stage: Stage, share: Callable[[], Share] = lambda: WHOLE, above: str | None = None) -> Done:
        """The stage, reused or made, accepted, and recorded in MLflow below a run: the pipeline's, or its model's."""
        stage.failure(self.workdir).unlink(missing_ok=True)
        try:
            return self._finish(stage, share, above or self.run_id)
        except Exception as error:
            with suppress(OSError):
                write_text(stage.failure(self.workdir), one_line(error))
            raise

    def _finish(self, stage: Stage, share: Callable[[], Share], above: str) -> Done:
        found = find_done(stage, self.workdir)
        if found is not None:
            self.progress.say(f"reused   {stage.key}  ({found.seconds:.1f} s when it was made)")
            stage.accept(found.result)
            if not stage_runs.recorded(self.tracker, above, stage):
                run_id = stage_runs.begin(self.tracker, above, stage)
                self._reads(stage, run_id, found)
                stage_runs.record(self.tracker, run_id, stage, found)
        else:
            found = self._make(stage, share, above)
        for warning in found.warnings:
            self.progress.say(f"warning  {stage.key}: {warning}")
        self.done[stage.place] = found
        return found

    def _make(self, stage: Stage, share: Callable[[], Share], above: str) -> Done:
        self.progress.say(f"running  {stage.key}")
        run_id = stage_runs.begin(self.tracker, above, stage)
        self._reads(stage, run_id)
        inputs = {name: self.done[other.place] for name, other in stage.inputs.items()}
        try:
            made = do_stage(
                stage, self.workdir, inputs, self.progress.of(stage.key), run_id, lambda: self.compute.workers(share())
            )
            stage.accept(made.result)
        except Exception as error:
            stage_runs.fail(self.tracker, run_id, error)
            raise
        self._reads(stage, run_id, made)
        stage_runs.record(self.tracker, run_id, stage, made)
        self.progress.say(f"done     {stage.key}  {made.seconds:.1f} s")
        return made

    def _reads(self, stage: Stage, run_id: str, done: Done | None = None) -> None:
        """Record in MLflow which images a stage reads; how many there are is known when the ingest is done."""
        if not stage.data:
            return
        ingested = done if stage.name == "ingest" else self.of(stage.inputs["ingest"])
        if ingested is not None:
            self.show_data(run_id, ingested, stage.data)

    def show_data(self, run_id: str, ingested: Done, context: str) -> None:
        """Put the data set on a run of MLflow."""
        self.tracker.dataset(run_id, dataset_of(self.config.source, self.source_digest, ingested.result), context)

    def say_seconds(self, stages: Sequence[Stage]) -> None:
        """A line for each stage: how long it took, now or when it was made."""
        widest = max(len(stage.key) for stage in stages)
        for stage in stages:
            done = self.of(stage)
            self.progress.say(
                f"stage    {stage.key:{widest}} {done.seconds:9.1f} s  {'reused' if done.reused else 'done'}"
            )

    def of(self, stage: Stage) -> Done:
        return self.done[stage.place]

    def unfinished(self, stages: Iterable[Stage]) -> bool:
        return any(find_done(stage, self.workdir) is None for stage in stages)
