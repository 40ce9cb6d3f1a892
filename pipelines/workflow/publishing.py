"""What other programs load by name: the noise as a registered model, pointing to the ViT it belongs to."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from nullspace.model.names import CONFIG, local_folder
from pipelines.configs.pipeline import PipelineConfig
from pipelines.engine.models import ModelFacts
from pipelines.engine.stage import Done, Stage
from pipelines.evaluations.learned_noise import report as learned_noise
from pipelines.report.view import Result
from pipelines.stages.search import report as search
from pipelines.tracking.model_runs import headlines
from pipelines.tracking.noise_versions import NoiseToRegister, VitToRecord, record_vit, register_noise
from pipelines.tracking.tracker import Tracker

# Figures of the model's run that are figures of its noise.
OF_THE_NOISE = (
    *("relative_norm", "guaranteed_mse_probabilities"),
    *("learned_noise.learned.agreement", "learned_noise.learned.mse_probabilities"),
)


def publish(
    tracker: Tracker,
    run_id: str,
    config: PipelineConfig,
    facts: ModelFacts,
    stages: Mapping[str, Stage],
    done: Mapping[str, Done],
) -> dict[str, Any]:
    """Record the ViT, register its noise with alias `champion`, and write the model's headline figures to the run.

    Returns the registered name and version; nothing where there was no search.
    """
    figures = headlines(stages, done)
    registered = _register(tracker, run_id, config, facts, done, figures) if "search" in done else {}
    # After the noise, whose own figures belong to its logged model, too; equal ones are not written twice.
    tracker.metrics(run_id, figures)
    return registered


def _register(
    tracker: Tracker,
    run_id: str,
    config: PipelineConfig,
    facts: ModelFacts,
    done: Mapping[str, Done],
    figures: Mapping[str, float],
) -> dict[str, Any]:
    name = f"{config.name}-{facts.spec.label}"
    vit = record_vit(
        tracker,
        run_id,
        VitToRecord(
            name=facts.spec.name,
            weights_source=facts.source,
            weights_sha256=facts.spec.weights_sha256,
            preprocessing=facts.preprocessing.to_dict(),
            num_classes=facts.num_classes,
            model_args=facts.spec.args,
            facts={"embed_dim": facts.embed_dim, "num_patches": facts.num_patches, "notes": list(facts.notes)},
        ),
    )
    model_folder = local_folder(facts.spec.name)
    searched = done["search"].result
    tested = [learned_noise.sentence(Result(done["learned_noise"].result))] if "learned_noise" in done else []
    with tempfile.TemporaryDirectory() as folder:
        noise = NoiseToRegister(
            registered_name=name,
            noise_path=done["search"].folder / "noise.safetensors",
            vit_model_id=vit,
            input_size=facts.preprocessing.input_size,
            weights_path=_packed_weights(facts, Path(folder)),
            config_path=None if model_folder is None else model_folder / CONFIG,
            weights=facts.spec.weights if facts.spec.weights == "random" else "pretrained",
            seed=facts.spec.seed,
            model_args=facts.spec.args,
            metrics={name: value for name, value in figures.items() if name in OF_THE_NOISE},
            tags={"nullspace.model": facts.spec.name, "nullspace.label": facts.spec.label},
            settings={**searched["settings"], "best_trial": searched["best_trial"], "objective": searched["objective"]},
            description=" ".join([search.sentence(Result(searched)), *tested]),
        )
        version = register_noise(tracker, run_id, noise)
    return {"registered_model": name, "version": version, "vit_model_id": vit}


def _packed_weights(facts: ModelFacts, folder: Path) -> Path | None:
    """The weights as safetensors where they came from a file of this machine; other machines do not have it."""
    own = local_folder(facts.spec.name) is not None and facts.spec.weights == "pretrained"
    if facts.spec.weights in ("pretrained", "random") and not own:
        return None
    given = Path(facts.spec.weights)
    if given.suffix == ".safetensors":
        return given
    model = facts.spec.load("cpu").model
    save_file(
        {name: tensor.contiguous() for name, tensor in model.state_dict().items()}, folder / "weights.safetensors"
    )
    return folder / "weights.safetensors"
