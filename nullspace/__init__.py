"""What can be added to an image, or to the tokens inside a Vision Transformer, without the model noticing.

`vit` cuts a model at its patch embedding and `encoder` enters it further in; `kernel` and `shift` hold what is
invisible exactly, `learning` what is nearly so, `subspace` where it lives, `nullness` the evidence for it; `pixels`,
`lift` and `rounding` bring it to images, `artifact` keeps it. Names are loaded when first used: importing is cheap.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

# Noise models that earlier runs stored in MLflow find `nullspace.vit` and two more where those modules were.
__path__.append(os.path.join(__path__[0], "former"))

if TYPE_CHECKING:
    from nullspace.errors import NullspaceError
    from nullspace.kernel.file_kernel import FileKernel, kernel_on_file
    from nullspace.kernel.patch_kernel import PatchKernel, kernel_of, patch_kernel
    from nullspace.kernel.shift import ShiftTest, exact_kernel, projection_shift_test, shift_test
    from nullspace.kernel.shift_lift import ShiftLift, shift_lift
    from nullspace.kernel.zoo import ZooRow, zoo_names, zoo_rows
    from nullspace.metrics.nullness import Evidence, HeldOut, evidence, measure_nullness
    from nullspace.metrics.radius import Radius, null_radius
    from nullspace.metrics.sample_size import images_needed
    from nullspace.model.device import choose_device
    from nullspace.model.encoder import Encoder
    from nullspace.model.preprocessing import Preprocessing
    from nullspace.model.resize import Resize, resize_matrix, resize_of
    from nullspace.model.vit import Outputs, SplitViT
    from nullspace.noise.artifact import NullNoise
    from nullspace.noise.baselines import PublishedSettings, learn_published
    from nullspace.noise.calibrated_scale import CalibratedScale, calibrate_scale
    from nullspace.noise.growing import GrownNoise, grow_noise
    from nullspace.noise.learn import LearnedNoise, LearningData, learn_noise, prepare
    from nullspace.noise.learner import NoiseLearner
    from nullspace.noise.settings import NoiseSettings
    from nullspace.pixels.box import Furthest, LargestNoise, LargestScale, furthest, largest_noise, largest_scale
    from nullspace.pixels.lift import Lift, PatchMap, SharedLift, lift_noise, lift_shared, map_of, patch_map
    from nullspace.pixels.rounding import Rounding, RoundingPlan, round_in_kernel, round_patches, rounding_plan
    from nullspace.subspace.closure import additivity, agreement_by_norm, scaling_curve, transfer
    from nullspace.subspace.sensitivity import captured_elsewhere, sensitivity_spectrum
    from nullspace.subspace.spectrum import SensitivitySpectrum
    from nullspace.subspace.starts import least_sensitive_start
    from nullspace.watermark.certify import certify
    from nullspace.watermark.distortions import distorted, distortion_named
    from nullspace.watermark.payload.detection import Detection
    from nullspace.watermark.payload.hidden_mark import HiddenMark
    from nullspace.watermark.payload.on_file import embed_on_file
    from nullspace.watermark.payload.realign import realign

__all__ = [
    "CalibratedScale",
    "Detection",
    "Encoder",
    "Evidence",
    "FileKernel",
    "Furthest",
    "GrownNoise",
    "HeldOut",
    "HiddenMark",
    "LargestNoise",
    "LargestScale",
    "LearnedNoise",
    "LearningData",
    "Lift",
    "NoiseLearner",
    "NoiseSettings",
    "NullNoise",
    "NullspaceError",
    "Outputs",
    "PatchKernel",
    "PatchMap",
    "Preprocessing",
    "PublishedSettings",
    "Radius",
    "Resize",
    "Rounding",
    "RoundingPlan",
    "SensitivitySpectrum",
    "SharedLift",
    "ShiftLift",
    "ShiftTest",
    "SplitViT",
    "ZooRow",
    "additivity",
    "agreement_by_norm",
    "calibrate_scale",
    "captured_elsewhere",
    "certify",
    "choose_device",
    "distorted",
    "distortion_named",
    "embed_on_file",
    "evidence",
    "exact_kernel",
    "furthest",
    "grow_noise",
    "images_needed",
    "kernel_of",
    "kernel_on_file",
    "largest_noise",
    "largest_scale",
    "learn_noise",
    "learn_published",
    "least_sensitive_start",
    "lift_noise",
    "lift_shared",
    "map_of",
    "measure_nullness",
    "null_radius",
    "patch_kernel",
    "patch_map",
    "prepare",
    "projection_shift_test",
    "realign",
    "resize_matrix",
    "resize_of",
    "round_in_kernel",
    "round_patches",
    "rounding_plan",
    "scaling_curve",
    "sensitivity_spectrum",
    "shift_lift",
    "shift_test",
    "transfer",
    "zoo_names",
    "zoo_rows",
]

_ROOMS = {
    "CalibratedScale": "noise.calibrated_scale",
    "Detection": "watermark.payload.detection",
    "Encoder": "model.encoder",
    "Evidence": "metrics.nullness",
    "FileKernel": "kernel.file_kernel",
    "Furthest": "pixels.box",
    "GrownNoise": "noise.growing",
    "HeldOut": "metrics.nullness",
    "HiddenMark": "watermark.payload.hidden_mark",
    "LargestNoise": "pixels.box",
    "LargestScale": "pixels.box",
    "LearnedNoise": "noise.learn",
    "LearningData": "noise.learn",
    "Lift": "pixels.lift",
    "NoiseLearner": "noise.learner",
    "NoiseSettings": "noise.settings",
    "NullNoise": "noise.artifact",
    "NullspaceError": "errors",
    "Outputs": "model.vit",
    "PatchKernel": "kernel.patch_kernel",
    "PatchMap": "pixels.lift",
    "Preprocessing": "model.preprocessing",
    "PublishedSettings": "noise.baselines",
    "Radius": "metrics.radius",
    "Resize": "model.resize",
    "Rounding": "pixels.rounding",
    "RoundingPlan": "pixels.rounding",
    "SensitivitySpectrum": "subspace.spectrum",
    "SharedLift": "pixels.lift",
    "ShiftLift": "kernel.shift_lift",
    "ShiftTest": "kernel.shift",
    "SplitViT": "model.vit",
    "ZooRow": "kernel.zoo",
    "additivity": "subspace.closure",
    "agreement_by_norm": "subspace.closure",
    "calibrate_scale": "noise.calibrated_scale",
    "captured_elsewhere": "subspace.sensitivity",
    "certify": "watermark.certify",
    "choose_device": "model.device",
    "distorted": "watermark.distortions",
    "distortion_named": "watermark.distortions",
    "embed_on_file": "watermark.payload.on_file",
    "evidence": "metrics.nullness",
    "exact_kernel": "kernel.shift",
    "furthest": "pixels.box",
    "grow_noise": "noise.growing",
    "images_needed": "metrics.sample_size",
    "kernel_of": "kernel.patch_kernel",
    "kernel_on_file": "kernel.file_kernel",
    "largest_noise": "pixels.box",
    "largest_scale": "pixels.box",
    "learn_noise": "noise.learn",
    "learn_published": "noise.baselines",
    "least_sensitive_start": "subspace.starts",
    "lift_noise": "pixels.lift",
    "lift_shared": "pixels.lift",
    "map_of": "pixels.lift",
    "measure_nullness": "metrics.nullness",
    "null_radius": "metrics.radius",
    "patch_kernel": "kernel.patch_kernel",
    "patch_map": "pixels.lift",
    "prepare": "noise.learn",
    "projection_shift_test": "kernel.shift",
    "realign": "watermark.payload.realign",
    "resize_matrix": "model.resize",
    "resize_of": "model.resize",
    "round_in_kernel": "pixels.rounding",
    "round_patches": "pixels.rounding",
    "rounding_plan": "pixels.rounding",
    "scaling_curve": "subspace.closure",
    "sensitivity_spectrum": "subspace.sensitivity",
    "shift_lift": "kernel.shift_lift",
    "shift_test": "kernel.shift",
    "transfer": "subspace.closure",
    "zoo_names": "kernel.zoo",
    "zoo_rows": "kernel.zoo",
}


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_ROOMS[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
