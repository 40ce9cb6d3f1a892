"""What can be added to an image, or to the tokens inside a Vision Transformer, without the model noticing.

`vit` cuts a model at its patch embedding, `kernel` and `shift` hold what is invisible exactly, `encoder_noise` what is
nearly so, `artifact` keeps it on disk. Names are loaded when first used: `import nullspace` itself costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nullspace.artifact import NullNoise
    from nullspace.device import choose_device
    from nullspace.errors import NullspaceError
    from nullspace.kernel import PatchKernel, kernel_of, patch_kernel
    from nullspace.preprocessing import Preprocessing
    from nullspace.shift import ShiftTest, exact_kernel, projection_shift_test, shift_test
    from nullspace.shift_pixels import ShiftLift, shift_lift
    from nullspace.vit import Outputs, SplitViT

__all__ = [
    "NullNoise",
    "NullspaceError",
    "Outputs",
    "PatchKernel",
    "Preprocessing",
    "ShiftLift",
    "ShiftTest",
    "SplitViT",
    "choose_device",
    "exact_kernel",
    "kernel_of",
    "patch_kernel",
    "projection_shift_test",
    "shift_lift",
    "shift_test",
]

_ROOMS = {
    "NullNoise": "artifact",
    "NullspaceError": "errors",
    "Outputs": "vit",
    "PatchKernel": "kernel",
    "Preprocessing": "preprocessing",
    "ShiftLift": "shift_pixels",
    "ShiftTest": "shift",
    "SplitViT": "vit",
    "choose_device": "device",
    "exact_kernel": "shift",
    "kernel_of": "kernel",
    "patch_kernel": "kernel",
    "projection_shift_test": "shift",
    "shift_lift": "shift_pixels",
    "shift_test": "shift",
}


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_ROOMS[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
