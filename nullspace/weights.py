"""Building a timm model with its weights: pretrained, from a file, or random; and the hash that names them."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import timm
import torch
from timm.models import get_arch_pretrained_cfgs, is_model
from torch import Tensor, nn

from nullspace.errors import NullspaceError, UnknownModelError, WeightsError
from nullspace.paths import local_path

_OFFLINE_REMEDY = "give a weights file (.safetensors, .pth) or 'random' instead"
_SHOWN = 3  # keys named in an error: enough to recognise the other model, few enough to read


def build_model(
    name: str, *, weights: str | Path = "pretrained", seed: int = 0, model_args: Mapping[str, Any] | None = None
) -> tuple[nn.Module, str]:
    """The timm model `name` on the CPU, and where its weights come from ("pretrained:…", "file:…", "random:<seed>").

    `weights` is "pretrained" (timm's, downloaded once), "random" (seeded, the global generators stay untouched) or the
    path of a .safetensors, .pth or .pt file. `model_args` go to `timm.create_model` (img_size, num_classes, …).
    Raises UnknownModelError, WeightsError.
    """
    require_known(name)
    arguments = dict(model_args or {})
    if str(weights) == "pretrained":
        model = _pretrained(name, seed, arguments)
        tag = getattr(model, "pretrained_cfg", {}).get("tag")
        return model, f"pretrained:{name.partition('.')[0]}" + (f".{tag}" if tag else "")
    if str(weights) == "random":
        return _create(name, seed, arguments), f"random:{seed}"
    path = local_path(weights, "weights")
    state = read_state_dict(path)  # before the model is built: a wrong path should not cost seconds
    model = _create(name, seed, arguments)
    _load_strictly(model, state, name, path)
    return model, f"file:{path}"


def require_known(name: str) -> None:
    """Raises UnknownModelError, offering the nearest names, unless timm knows `name` (an architecture, or name.tag)."""
    architecture, _, tag = name.partition(".")
    if not is_model(architecture):
        near = difflib.get_close_matches(architecture, timm.list_models(), n=3, cutoff=0.5)
        offer = f"did you mean {', '.join(near)}?" if near else "timm.list_models() lists them"
        raise UnknownModelError(f"expected a timm model name, got {name!r}; {offer}")
    tags = [known for known in get_arch_pretrained_cfgs(architecture) if known] if tag else []
    if tag and tag not in {known.partition(".")[2] or known for known in tags}:
        near = difflib.get_close_matches(tag, [known.partition(".")[2] or known for known in tags], n=3, cutoff=0.0)
        offer = ", ".join(f"{architecture}.{known}" for known in near) or architecture
        raise UnknownModelError(f"{architecture} has no pretrained tag {tag!r}; did you mean {offer}?")


def weights_hash(model: nn.Module) -> str:
    """sha256 over names, dtypes, shapes and bytes of the state dict, by name: the same whatever file they came from."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Tensors by name from a .safetensors file, or from a .pth/.pt file without running any code in it.

    A file that holds {"model": …} or {"state_dict": …} is unwrapped. Raises WeightsError.
    """
    if not path.is_file():
        raise WeightsError(f"expected a weights file, got {str(path)!r}, which is no file; check the path")
    if path.suffix == ".safetensors":
        try:
            return safetensors.torch.load_file(path)
        except (safetensors.SafetensorError, OSError) as error:
            raise WeightsError(f"{path} is not a readable safetensors file ({error}); fetch it again") from error
    if path.suffix not in (".pth", ".pt"):
        raise WeightsError(f"expected a weights file .safetensors, .pth or .pt, got {path.name!r}; convert it first")
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's reader fails on damaged bytes in as many ways as there are bytes
        raise WeightsError(
            f"{path} cannot be read as plain tensors: damaged, or it holds code or objects, which are never loaded "
            f"({_first_line(error)}); fetch it again or save its state dict as safetensors"
        ) from error
    return _unwrapped(loaded, path)


def _unwrapped(loaded: Any, path: Path) -> dict[str, Tensor]:
    for key in ("model", "state_dict"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping) or not loaded or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise WeightsError(f"expected {path} to hold a state dict (names to tensors), got {type(loaded).__name__}")
    if all(name.startswith("module.") for name in loaded):  # saved from DataParallel
        return {name.removeprefix("module."): value for name, value in loaded.items()}
    return dict(loaded)


def _pretrained(name: str, seed: int, arguments: dict[str, Any]) -> nn.Module:
    try:
        return _create(name, seed, {"pretrained": True, **arguments})
    except NullspaceError:
        raise
    except Exception as error:  # the download may fail in the ways of several HTTP libraries
        raise WeightsError(
            f"the pretrained weights of {name} cannot be had ({_first_line(error)}); {_OFFLINE_REMEDY}"
        ) from error


def _create(name: str, seed: int, arguments: dict[str, Any]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed CUDA too, where nothing is drawn
        try:
            return timm.create_model(name, **arguments)
        except TypeError as error:
            raise NullspaceError(f"{name} does not take these model arguments: {error}") from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _load_strictly(model: nn.Module, state: dict[str, Tensor], name: str, path: Path) -> None:
    expected = model.state_dict()
    faults = {
        "missing": sorted(expected.keys() - state.keys()),
        "unexpected": sorted(state.keys() - expected.keys()),
        "of another shape": [
            f"{key} (expected {tuple(expected[key].shape)}, got {tuple(state[key].shape)})"
            for key in sorted(expected.keys() & state.keys())
            if expected[key].shape != state[key].shape
        ],
    }
    found = [
        f"{len(keys)} {what}: {', '.join(keys[:_SHOWN])}{', …' * (len(keys) > _SHOWN)}"
        for what, keys in faults.items()
        if keys
    ]
    if found:
        raise WeightsError(
            f"{path} does not hold the weights of {name}: {'; '.join(found)}. Give the model name the file was made "
            "for, and its arguments (num_classes, img_size) where they differ from timm's"
        )
    model.load_state_dict(state, strict=True)
