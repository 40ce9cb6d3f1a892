"""How large the best noise may be: its scale, calibrated by a worker that has a model and sees images of no trial."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from nullspace.model.encoder import Encoder
from nullspace.noise.calibrated_scale import calibrate_scale
from pipelines.engine.models import ModelSpec
from pipelines.engine.workers.shard_workers import Workers
from pipelines.stages.search.images import read_images
from pipelines.stages.search.trial import TrialData

_RETRIES = 3  # of the task: its node may die under it


def calibrated_on_a_worker(
    noise: np.ndarray, data: TrialData, expected: float, confidence: float, workers: Workers
) -> dict[str, Any]:
    """`calibrated` as one task with the resources of a trial, or `here`; errors keep their type."""
    if workers.here:
        return calibrated(noise, data, expected, confidence)
    import ray
    from ray.exceptions import RayTaskError

    task = ray.remote(calibrated).options(num_cpus=workers.cpus, num_gpus=workers.gpus, max_retries=_RETRIES)
    try:
        return ray.get(task.remote(noise, data, expected, confidence))
    except RayTaskError as error:
        raise (error.cause or error) from error


def calibrated(noise: np.ndarray, data: TrialData, expected: float, confidence: float) -> dict[str, Any]:
    """`CalibratedScale` of noise (N,D) as plain values. Raises NullspaceError when no scale is shown to be within ε."""
    encoder = Encoder(ModelSpec(**data.model).load(data.device))
    images = read_images(data.images, ("calibration",), encoder, data.unit, data.batch_images)["calibration"]
    found = calibrate_scale(
        images, torch.from_numpy(noise), epsilon=data.epsilon, expected=expected, confidence=confidence
    )
    return asdict(found) | {"tested": [list(trial) for trial in found.tested]}
