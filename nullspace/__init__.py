"""What can be added to an image, or to the tokens inside a Vision Transformer, without the model noticing.

`vit` cuts a model at its patch embedding and `encoder` enters it further in; `kernel` and `shift` hold what is
invisible exactly, `learning` what is nearly so, `subspace` where it lives, `nullness` the evidence for it; `pixels`,
`lift` and `rounding` bring it to images, `artifact` keeps it. Names are loaded when first used: importing is cheap.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nullspace.artifact import NullNoise
    from nullspace.box import Furthest, LargestNoise, LargestScale, furthest, largest_noise, largest_scale
    from nullspace.calibrated_scale import CalibratedScale, calibrate_scale
    from nullspace.closure import additivity, agreement_by_norm, scaling_curve, transfer
    from nullspace.device import choose_device
    from nullspace.encoder import Encoder
    from nullspace.encoder_noise import NoiseLearner
    from nullspace.errors import NullspaceError
    from nullspace.file_kernel import FileKernel, kernel_on_file
    from nullspace.growing import GrownNoise, grow_noise
    from nullspace.kernel import PatchKernel, kernel_of, patch_kernel
    from nullspace.learning import LearnedNoise, LearningData, learn_noise, prepare
    from nullspace.lift import Lift, PatchMap, SharedLift, lift_noise, lift_shared, map_of, patch_map
    from nullspace.noise_settings import NoiseSettings
    from nullspace.nullness import Evidence, HeldOut, evidence, measure_nullness
    from nullspace.preprocessing import Preprocessing
    from nullspace.published import PublishedSettings, learn_published
    from nullspace.radius import Radius, null_radius
    from nullspace.resize import Resize, resize_matrix, resize_of
    from nullspace.rounding import Rounding, RoundingPlan, round_in_kernel, round_patches, rounding_plan
    from nullspace.sample_size import images_needed
    from nullspace.shift import ShiftTest, exact_kernel, projection_shift_test, shift_test
    from nullspace.shift_pixels import ShiftLift, shift_lift
    from nullspace.spectrum import SensitivitySpectrum
    from nullspace.starts import least_sensitive_start
    from nullspace.subspace import captured_elsewhere, sensitivity_spectrum
    from nullspace.vit import Outputs, SplitViT
    from nullspace.watermark.attacks import attack_named, attacked
    from nullspace.watermark.certify import certify
    from nullspace.watermark.detection import Detection
    from nullspace.watermark.on_file import embed_on_file
    from nullspace.watermark.payload import HiddenMark
    from nullspace.watermark.realign import realign
    from nullspace.zoo import ZooRow, zoo_names, zoo_rows

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
    "attack_named",
    "attacked",
    "calibrate_scale",
    "captured_elsewhere",
    "certify",
    "choose_device",
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
    "CalibratedScale": "calibrated_scale",
    "Detection": "watermark.detection",
    "Encoder": "encoder",
    "Evidence": "nullness",
    "FileKernel": "file_kernel",
    "Furthest": "box",
    "GrownNoise": "growing",
    "HeldOut": "nullness",
    "HiddenMark": "watermark.payload",
    "LargestNoise": "box",
    "LargestScale": "box",
    "LearnedNoise": "learning",
    "LearningData": "learning",
    "Lift": "lift",
    "NoiseLearner": "encoder_noise",
    "NoiseSettings": "noise_settings",
    "NullNoise": "artifact",
    "NullspaceError": "errors",
    "Outputs": "vit",
    "PatchKernel": "kernel",
    "PatchMap": "lift",
    "Preprocessing": "preprocessing",
    "PublishedSettings": "published",
    "Radius": "radius",
    "Resize": "resize",
    "Rounding": "rounding",
    "RoundingPlan": "rounding",
    "SensitivitySpectrum": "spectrum",
    "SharedLift": "lift",
    "ShiftLift": "shift_pixels",
    "ShiftTest": "shift",
    "SplitViT": "vit",
    "ZooRow": "zoo",
    "additivity": "closure",
    "agreement_by_norm": "closure",
    "attack_named": "watermark.attacks",
    "attacked": "watermark.attacks",
    "calibrate_scale": "calibrated_scale",
    "captured_elsewhere": "subspace",
    "certify": "watermark.certify",
    "choose_device": "device",
    "embed_on_file": "watermark.on_file",
    "evidence": "nullness",
    "exact_kernel": "shift",
    "furthest": "box",
    "grow_noise": "growing",
    "images_needed": "sample_size",
    "kernel_of": "kernel",
    "kernel_on_file": "file_kernel",
    "largest_noise": "box",
    "largest_scale": "box",
    "learn_noise": "learning",
    "learn_published": "published",
    "least_sensitive_start": "starts",
    "lift_noise": "lift",
    "lift_shared": "lift",
    "map_of": "lift",
    "measure_nullness": "nullness",
    "null_radius": "radius",
    "patch_kernel": "kernel",
    "patch_map": "lift",
    "prepare": "learning",
    "projection_shift_test": "shift",
    "realign": "watermark.realign",
    "resize_matrix": "resize",
    "resize_of": "resize",
    "round_in_kernel": "rounding",
    "round_patches": "rounding",
    "rounding_plan": "rounding",
    "scaling_curve": "closure",
    "sensitivity_spectrum": "subspace",
    "shift_lift": "shift_pixels",
    "shift_test": "shift",
    "transfer": "closure",
    "zoo_names": "zoo",
    "zoo_rows": "zoo",
}


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_ROOMS[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
