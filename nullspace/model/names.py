"""Model names as timm takes them: an architecture with or without a tag, `local-dir:FOLDER`, `hf-hub:ORG/NAME`."""

from __future__ import annotations

import difflib
import heapq
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import timm
from timm.models import get_arch_pretrained_cfgs, is_model, parse_model_name

from nullspace.errors import NullspaceError, UnknownModelError, WeightsError

LOCAL = "local-dir"
CONFIG = "config.json"
# timm's own order of preference in a folder (timm.models._hub.load_state_dict_from_path).
_PREFERRED = (
    *("model.safetensors", "pytorch_model.bin", "pytorch_model.pth", "model.pth", "open_clip_model.safetensors"),
    *("open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin", "open_clip_pytorch_model.pth"),
)
_ENDINGS = (".safetensors", ".pth", ".pth.tar", ".bin")
# Arguments of timm.create_model that only this package may set, and what the user sets instead.
_RESERVED = {
    **dict.fromkeys(("pretrained", "pretrained_cfg", "checkpoint_path", "cache_dir"), "`weights` chooses the weights"),
    **dict.fromkeys(("features_only", "scriptable", "exportable", "no_jit"), "a whole model is needed"),
    **dict.fromkeys(("device", "dtype"), "the device is chosen elsewhere, and weights are float32"),
}
_PREPROCESSING = ("mean", "std", "interpolation", "crop_pct", "crop_mode")


def require_known(name: str) -> None:
    """Raises UnknownModelError, offering the nearest names, unless timm can look `name` up."""
    try:
        source, identifier = parse_model_name(name)
    except ValueError as error:
        raise UnknownModelError(f"expected a timm model name, got {name!r}: {error}") from error
    if source == LOCAL:
        _require_folder(name, Path(identifier))
    if source is None:
        _require_architecture(name)


def local_folder(name: str) -> Path | None:
    """The folder of a `local-dir:` name, None for other names."""
    source, colon, folder = name.partition(":")
    return Path(folder).expanduser() if colon and source.lower() == LOCAL else None


def absolute_name(name: str) -> str:
    """The name as it can be used from any folder: a `local-dir:` with its whole path, others as they are."""
    folder = local_folder(name)
    return name if folder is None else f"{LOCAL}:{folder.absolute()}"


def weights_in(folder: Path) -> Path:
    """The weights file timm takes from the folder of a `local-dir:` model. Raises WeightsError when there is none."""
    found = [folder / name for name in _PREFERRED if (folder / name).is_file()]
    for ending in _ENDINGS:
        found += sorted(folder.glob(f"*{ending}"))
    if not found:
        raise WeightsError(f"expected weights in {folder}, such as {_PREFERRED[0]}, got none; give a weights file")
    return found[0]


def check_model_args(arguments: Mapping[str, Any]) -> None:
    """Raises NullspaceError for arguments of `timm.create_model` that a user may not give here."""
    for name, value in arguments.items():
        if name in _RESERVED:
            raise NullspaceError(f"the model argument {name!r} cannot be given: {_RESERVED[name]}")
        if name == "in_chans" and value != 3:
            raise NullspaceError(f"expected in_chans 3, got {value!r}: images are RGB; choose an RGB model")
        if name == "pretrained_cfg_overlay" and not (
            isinstance(value, Mapping) and value.keys() <= set(_PREPROCESSING)
        ):
            raise NullspaceError(
                f"expected pretrained_cfg_overlay to hold only {', '.join(_PREPROCESSING)}, got {value!r}; weights are "
                "chosen by `weights`, the input size by img_size"
            )


def _require_folder(name: str, folder: Path) -> None:
    if not folder.expanduser().is_dir():
        raise UnknownModelError(f"expected a folder behind {LOCAL}:, got {name!r}; check the path")
    config = folder.expanduser() / CONFIG
    try:
        architecture = str(json.loads(config.read_text(encoding="utf-8"))["architecture"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UnknownModelError(
            f"expected {config} to name a timm architecture ({type(error).__name__}: {error}); timm's save_for_hf "
            "writes such folders"
        ) from error
    if not is_model(architecture):
        raise UnknownModelError(f"{config}: {_unknown(architecture)}")


def _require_architecture(name: str) -> None:
    architecture, _, tag = name.partition(".")
    if not is_model(architecture):
        raise UnknownModelError(_unknown(name, architecture))
    tags = [known for known in get_arch_pretrained_cfgs(architecture) if known] if tag else []
    if tag and tag not in {known.partition(".")[2] or known for known in tags}:
        near = difflib.get_close_matches(tag, [known.partition(".")[2] or known for known in tags], n=3, cutoff=0.0)
        offer = ", ".join(f"{architecture}.{known}" for known in near) or architecture
        raise UnknownModelError(f"{architecture} has no pretrained tag {tag!r}; did you mean {offer}?")


def _unknown(name: str, architecture: str | None = None) -> str:
    near = _nearest(architecture or name, timm.list_models())
    offer = f"did you mean {', '.join(near)}?" if near else "timm.list_models() lists them"
    return f"expected a timm model name, got {name!r}; {offer}"


def _nearest(given: str, known: Iterable[str]) -> list[str]:
    """The three nearest names, whole or as far as the given one goes: people leave out `_patch16_224`."""

    def likeness(name: str) -> float:
        return max(difflib.SequenceMatcher(None, given, part).ratio() for part in (name, name[: len(given)]))

    return heapq.nlargest(3, (name for name in known if likeness(name) >= 0.5), key=likeness)
