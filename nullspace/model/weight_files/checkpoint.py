"""Weights out of a file, without running any code in it: chosen as timm's own reader chooses them."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from timm.models import clean_state_dict
from torch import Tensor

from nullspace.errors import WeightsError
from nullspace.model.weight_files.file_kind import FileKind
from nullspace.model.weight_files.stand_ins import stand_ins

_AVERAGED = ("state_dict_ema", "model_ema")  # in timm's order, which takes them before the plain ones
_PLAIN = ("state_dict", "model", "model_state_dict", "module", "net")  # timm's two, then what PyTorch's guides use
_REFUSED_GLOBAL = re.compile(r"GLOBAL (\S+)")
_SHOWN = 3


@dataclass(frozen=True)
class StoredWeights:
    """Tensors by name; `choice` says which set of several it is: "EMA", "without EMA", or "" where there is one."""

    tensors: dict[str, Tensor]
    choice: str = ""


def read_weights(path: Path, kind: FileKind, *, ema: bool = True) -> StoredWeights:
    """Tensors by name from a safetensors file or a PyTorch checkpoint, as `timm.models.load_state_dict` picks them.

    `ema` takes averaged weights where there are any. Prefixes that timm takes off (`module.`, `_orig_mod.`) are gone.
    Raises WeightsError.
    """
    if kind is FileKind.SAFETENSORS:
        try:
            return StoredWeights(_cleaned(safetensors.torch.load_file(path), path))
        except (safetensors.SafetensorError, OSError) as error:
            raise WeightsError(f"{path} is not a readable safetensors file ({error}); fetch it again") from error
    try:
        # Opened here: by its path torch would take a file named .safetensors for one.
        with path.open("rb") as opened, torch.serialization.safe_globals(stand_ins()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what torch warns of it also raises
            loaded = torch.load(opened, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's reader fails on damaged bytes in as many ways as there are bytes
        raise WeightsError(_unreadable(path, error)) from error
    content, choice = _chosen(loaded, path, ema)
    return StoredWeights(_cleaned(_checked(content, path), path), choice)


def _cleaned(tensors: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    cleaned = clean_state_dict(tensors)
    if len(cleaned) < len(tensors):  # one of two would have been lost
        raise WeightsError(f"{path} holds weights twice, with and without the prefix of a wrapper; save one of them")
    return cleaned


def _unreadable(path: Path, error: Exception) -> str:
    named = _REFUSED_GLOBAL.search(str(error))
    if named:
        return (
            f"{path} holds code or objects ({named[1].rstrip('.')}), which are never loaded; save its state dict alone "
            "by torch.save(model.state_dict(), FILE)"
        )
    cause = first_line(error)
    why = "" if "weights_only" in cause else f" ({cause})"  # torch would advise to load it anyway
    return (
        f"{path} cannot be read as plain tensors: damaged, or it holds code or objects, which are never loaded{why}; "
        "fetch it again or save its state dict as safetensors"
    )


def _chosen(loaded: Any, path: Path, ema: bool) -> tuple[Any, str]:
    """The set of weights among those a checkpoint holds, and which one it is."""
    if not isinstance(loaded, Mapping):
        return loaded, ""
    averaged = [key for key in _AVERAGED if loaded.get(key) is not None]
    plain = [key for key in _PLAIN if isinstance(loaded.get(key), Mapping)]
    if ema and averaged:
        return _inner(loaded[averaged[0]]), "EMA"
    if not plain and averaged:
        raise WeightsError(f"{path} holds EMA weights alone ({averaged[0]}), and they were not asked for; take them")
    if not plain:
        return loaded, ""
    content, choice = _chosen(loaded[plain[0]], path, ema)
    return content, choice or ("without EMA" if averaged else "")


def _inner(content: Any) -> Any:
    """Averages are also kept whole: {"state_dict": …} or {"module": …} with the decay beside it."""
    for key in ("state_dict", "module", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            return content[key]
    return content


def _checked(content: Any, path: Path) -> dict[str, Tensor]:
    if not isinstance(content, Mapping) or not content:
        what = "an empty one" if isinstance(content, Mapping) else type(content).__name__
        raise WeightsError(f"expected {path} to hold a state dict (names to tensors), got {what}")
    others = [str(name) for name, value in content.items() if not isinstance(value, Tensor)]
    if others:
        shown = ", ".join(others[:_SHOWN]) + ", …" * (len(others) > _SHOWN)
        raise WeightsError(
            f"expected {path} to hold a state dict (names to tensors), got {len(others)} of {len(content)} that are no "
            f"tensors: {shown}; save the state dict alone, or under the key 'state_dict' or 'model'"
        )
    return {str(name): value for name, value in content.items()}


def first_line(error: BaseException) -> str:
    """The first line of a message; the error's type where it has none."""
    return next(iter(str(error).splitlines()), type(error).__name__)
