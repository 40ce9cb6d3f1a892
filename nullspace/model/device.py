"""Which device to compute on: chosen by itself, or checked when named."""

from __future__ import annotations

import torch

from nullspace.errors import DeviceError


def available_devices() -> list[str]:
    """Names of the devices of this machine, best first; always ends with "cpu"."""
    names = [f"cuda:{index}" for index in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    if torch.backends.mps.is_available():
        names.append("mps")
    return [*names, "cpu"]


def choose_device(name: str = "auto") -> torch.device:
    """The device called `name` ("auto", "cpu", "cuda", "cuda:0", "mps"); "auto" is CUDA, else MPS, else the CPU.

    Raises DeviceError, naming the devices there are, when the one asked for is not there.
    """
    names = available_devices()
    if name == "auto":
        return torch.device(names[0])
    if name not in {*names, *(known.partition(":")[0] for known in names)}:
        raise DeviceError(f"expected a device of this machine ({', '.join(names)} or auto), got {name!r}")
    return torch.device(name)
