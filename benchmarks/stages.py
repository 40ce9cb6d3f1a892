"""The pipeline's stages by themselves, without MLflow, for the benchmarks that time them."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from nullspace.metrics.unit import Unit
from nullspace.noise.artifact import NullNoise
from pipelines.configs.pipeline import PipelineConfig
from pipelines.data.shards import lowest_places
from pipelines.data.sources import open_source
from pipelines.data.split import make_split
from pipelines.engine.machines.compute import Compute
from pipelines.engine.models import ModelFacts, learn_facts
from pipelines.engine.progress import Progress
from pipelines.engine.stage import Done, Stage, do_stage
from pipelines.workflow.plan import Means, make_plan


class Bench:
    """Stages of the first model of a config, in a work folder. Use as a context manager."""

    def __init__(self, config: PipelineConfig, workdir: Path, *, address: str | None = None) -> None:
        self.config, self.workdir = config, workdir
        self._stack = ExitStack()
        self.compute = self._stack.enter_context(Compute(config.resources, address=address, device=config.device))
        self.facts: ModelFacts = learn_facts(config.models[0], config.seed)[0]
        source = open_source(config.source)
        plan = make_plan(config, [self.facts], source.digest(), Means(source, self.compute, None))  # pyright: ignore
        (branch,) = plan.branches.values()
        self.stages: dict[str, Stage] = {**{"ingest": next(iter(plan.ingests.values()))}, **branch}
        self.done: dict[str, Done] = {}

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.close()

    def stage(self, name: str) -> Done:
        """Do a stage and what it needs; a search is not done but stood in for by random noise."""
        if name not in self.done:
            stage = self.stages[name]
            if name == "search":
                self.done[name] = self._no_search()
            else:
                inputs = {other.name: self.stage(other.name) for other in stage.inputs.values()}
                self.done[name] = do_stage(stage, self.workdir, inputs, Progress(), "", self.compute.workers)
        return self.done[name]

    def _no_search(self) -> Done:
        settings, facts = self.config.search, self.facts
        assert settings is not None, "stood in for, so its sizes are needed"
        ingested = self.stage("ingest")
        parts = {part: getattr(settings, f"{part}_images") for part in ("learn", "validation", "calibration")}
        places = lowest_places(ingested.folder, self.config.seed, sum(parts.values()) + 1)
        total = ingested.result["images"]
        split = make_split(places, self.config.seed, **parts, total=total)
        token_norm = self.stage("reference").result["token_norm"]
        drawn = torch.randn(facts.num_patches, facts.embed_dim, generator=torch.Generator().manual_seed(0))
        noise = NullNoise.of(
            0.5 * token_norm * drawn / drawn.norm(dim=-1, keepdim=True),
            Unit(token_norm, shift_invariant=True),
            model=facts.spec,
            objective="none: random",
            seed=0,
            data_fingerprint="0",
        )
        folder = self.workdir / "no-search"
        folder.mkdir(parents=True, exist_ok=True)
        noise.save(folder / "noise.safetensors")
        found = {"split": asdict(split), "relative_norm": noise.relative_norm, "epsilon": settings.epsilon}
        return Done(folder, found, 0.0, reused=False)
