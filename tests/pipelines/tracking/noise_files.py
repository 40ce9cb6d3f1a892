"""Noise of the digits model, saved, and registered with MLflow, for the tests of versions and of predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import torch

from nullspace.model.vit import SplitViT
from nullspace.noise.artifact import NullNoise
from pipelines.digits.model import weights_path
from pipelines.tracking.noise_versions import LOGGED_MODEL, NoiseToRegister, VitToRecord, record_vit, register_noise
from pipelines.tracking.tracker import Tracker

NAME = "digits-noise"


def save_noise(vit: SplitViT, path: Path, seed: int, weights_sha256: str | None = None) -> Path:
    tensor = torch.randn(vit.num_patches, vit.embed_dim, generator=torch.Generator().manual_seed(seed))
    NullNoise(
        tensor=tensor,
        model_name=vit.name,
        weights_sha256=weights_sha256 or vit.weights_sha256,
        norm=float(tensor.norm()),
        effective_norm=float(tensor.norm()),
        relative_norm=0.5,
        spread=1.0,
        token_norm=1.0,
        shift_invariant=True,
        objective="logits",
        seed=seed,
        data_fingerprint="none",
    ).save(path)
    return path


def record(tracker: Tracker, run: str, vit: SplitViT) -> str:
    recorded = VitToRecord(
        name=vit.name,
        weights_source=vit.weights_source,
        weights_sha256=vit.weights_sha256,
        preprocessing=vit.preprocessing.to_dict(),
        num_classes=vit.num_classes,
        facts={"embed_dim": vit.embed_dim},
    )
    return record_vit(tracker, run, recorded)


def register_file(tracker: Tracker, run: str, vit: SplitViT, path: Path, **changes: Any) -> str:
    given: dict[str, Any] = {
        "noise_path": path,
        "weights_path": weights_path(),
        "vit_model_id": record(tracker, run, vit),
        "registered_name": NAME,
        "input_size": vit.preprocessing.input_size,
        "metrics": {"agreement": 0.9},
        "tags": {"nullspace.fingerprint": "f1"},
        "settings": {"learning_rate": 0.1},
        "description": "Small noise.",
    }
    return register_noise(tracker, run, NoiseToRegister(**{**given, **changes}))


def champion(tracker: Tracker, name: str) -> Any:
    target = tracker.client.get_model_version_by_alias(name, "champion")
    return mlflow.pyfunc.load_model(tracker.client.get_logged_model(target.tags[LOGGED_MODEL]).artifact_location)
