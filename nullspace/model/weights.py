"""Building a timm model with its weights: pretrained, from a file, or random; and the hash that names them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import timm
import torch
from torch import Tensor, nn

from nullspace.errors import NullspaceError, UnknownModelError, WeightsError
from nullspace.model.names import absolute_name, check_model_args, local_folder, require_known, weights_in
from nullspace.model.weight_files.checkpoint import first_line, read_weights
from nullspace.model.weight_files.file_kind import FileKind, kind_of
from nullspace.model.weight_files.from_shapes import Shapes, arguments_from_shapes, shapes_of, without_wrappers
from nullspace.model.weight_files.npz import arguments_from_npz, load_npz
from nullspace.paths import local_path

_OFFLINE_REMEDY = "give a weights file (.safetensors, .pth) or 'random' instead"
_SHOWN = 3  # keys named in an error: enough to recognise the other model, few enough to read
_PATCHES = "patch_embed.proj.weight"
_SIZED = ("pos_embed", _PATCHES)  # what timm resamples, also where the file has prefixes before it
# What timm's constructors raise for arguments they cannot use.
_REFUSALS = (ValueError, AssertionError, RuntimeError, KeyError, AttributeError, IndexError)


class Built(NamedTuple):
    """A model, where its weights come from, and what else a user should know about them."""

    model: nn.Module
    source: str
    notes: tuple[str, ...] = ()


def build_model(
    name: str,
    *,
    weights: str | Path = "pretrained",
    seed: int = 0,
    model_args: Mapping[str, Any] | None = None,
    ema: bool = True,
) -> Built:
    """The timm model `name` on the CPU; its source is "pretrained:…", "file:…", "file:… (EMA)" or "random:<seed>".

    `weights` is "pretrained" (timm's, downloaded once; of a `local-dir:` name those in its folder), "random" (seeded,
    the global generators stay untouched) or the path of a file, whatever its ending. `model_args` go to
    `timm.create_model` (img_size, num_classes, …); number of classes and input size are taken from a file's shapes
    where these show them. `ema` takes a file's averaged weights where it has them, as timm does.
    Raises UnknownModelError, WeightsError, NullspaceError.
    """
    require_known(name)
    arguments = dict(model_args or {})
    check_model_args(arguments)
    if str(weights) == "random":
        return Built(_create(name, seed, arguments), f"random:{seed}")
    folder = local_folder(name)
    if str(weights) == "pretrained":
        if folder is None:
            return _pretrained(name, seed, arguments)
        # Its weights as any file: timm would fill what is missing with random numbers, and say so only in a log.
        weights = weights_in(folder)
    return _from_file(name, local_path(weights, "weights").expanduser(), seed, arguments, ema)


def weights_hash(model: nn.Module) -> str:
    """sha256 over names, dtypes, shapes and bytes of the state dict, by name: the same whatever file they came from."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _from_file(name: str, path: Path, seed: int, given: dict[str, Any], ema: bool) -> Built:
    kind = kind_of(path)  # before the model is built: a wrong path should not cost seconds
    if kind is FileKind.NPZ:
        inferred, notes = arguments_from_npz(_outline(name, seed, given), path, given)
        model = _create(name, seed, given | inferred)
        load_npz(model, path, name)
        return Built(model, f"file:{path}", notes)
    stored = read_weights(path, kind, ema=ema)
    outline = _outline(name, seed, given)
    state, named = without_wrappers(stored.tensors, list(outline.state_dict()))
    inferred, notes = arguments_from_shapes(outline, shapes_of(state), given)
    arguments = given | inferred
    model = _create(name, seed, arguments)
    if shapes_of(state) == shapes_of(model.state_dict()):
        model.load_state_dict(state, strict=True)
    else:
        fault = WeightsError(_faults(shapes_of(model.state_dict()), named, name, path))
        if resized := _resized(model, state):
            cause = "patch_size" if any(change.startswith(_PATCHES) for change in resized) else "img_size"
            if cause not in given:  # timm would resample to any size without a word
                raise fault
            notes += (f"{', '.join(resized)}: resampled by timm for {cause}={given[cause]}",)
        try:
            model.load_state_dict(_converted(model, state, name, seed, arguments), strict=True)
        except Exception as error:  # timm's conversions fail on unknown names in as many ways as there are models
            raise fault from error
        if state.keys() != outline.state_dict().keys():
            notes += ("names converted by timm's own reader",)
    return Built(model, f"file:{path}" + (f" ({stored.choice})" if stored.choice else ""), notes)


def _resized(model: nn.Module, state: Mapping[str, Tensor]) -> list[str]:
    """Tensors of the file that have another size in the model, with both shapes."""
    ours, found = model.state_dict(), list[str]()
    for name, tensor in state.items():
        key = next((key for key in (name, *_SIZED) if key in ours and f".{name}".endswith(f".{key}")), None)
        if key is not None and tensor.numel() != ours[key].numel():
            found.append(f"{key} {tuple(tensor.shape)} to {tuple(ours[key].shape)}")
    return found


def _converted(
    model: nn.Module, state: dict[str, Tensor], name: str, seed: int, arguments: Mapping[str, Any]
) -> dict[str, Tensor]:
    """The state in the model's own names and shapes, by timm's conversion for its kind."""
    overlay = {
        **dict(arguments.get("pretrained_cfg_overlay") or {}),
        **{"state_dict": state, "num_classes": getattr(model, "num_classes", 0), "label_offset": 0},
        **{"url": None, "file": None, "hf_hub_id": None, "source": None},
    }
    return _create(name, seed, {**arguments, "pretrained": True, "pretrained_cfg_overlay": overlay}).state_dict()


def _pretrained(name: str, seed: int, given: dict[str, Any]) -> Built:
    try:
        model = _create(name, seed, {"pretrained": True, **given})
    except NullspaceError:
        raise
    except Exception as error:  # the download may fail in the ways of several HTTP libraries
        raise WeightsError(
            f"the pretrained weights of {name} cannot be had ({first_line(error)}); {_OFFLINE_REMEDY}"
        ) from error
    declared: Mapping[str, Any] = getattr(model, "pretrained_cfg", {})
    tag = declared.get("tag")
    source = f"pretrained:{name if ':' in name else name.partition('.')[0] + (f'.{tag}' if tag else '')}"
    return Built(model, source, _said_of_pretrained(model, declared, given))


def _said_of_pretrained(model: nn.Module, declared: Mapping[str, Any], given: Mapping[str, Any]) -> tuple[str, ...]:
    """What timm does to pretrained weights of other sizes than asked for, and says only in a log."""
    notes = list[str]()
    classes, known = given.get("num_classes"), declared.get("num_classes")
    if classes and known and classes != known:
        notes.append(f"the head is new and random: the pretrained weights have {known} classes, not {classes}")
    size, own = getattr(getattr(model, "patch_embed", None), "img_size", None), declared.get("input_size")
    if "img_size" in given and size and own and tuple(size) != tuple(own[-2:]):
        notes.append(f"adapted by timm from {own[-2]}x{own[-1]} to {size[0]}x{size[1]} input")
    return tuple(notes)


def _outline(name: str, seed: int, arguments: Mapping[str, Any]) -> nn.Module:
    """The model without memory, for its names and shapes; whole where timm cannot build it so."""
    try:
        with torch.device("meta"):
            return _create(name, seed, arguments)
    except (*_REFUSALS, OSError):
        return _create(name, seed, arguments)


def _create(name: str, seed: int, arguments: Mapping[str, Any]) -> nn.Module:
    given: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in arguments.items()
    }
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed CUDA too, where nothing is drawn
        try:
            return timm.create_model(absolute_name(name), **given)
        except TypeError as error:
            raise NullspaceError(f"{name} does not take these model arguments: {first_line(error)}") from error
        except OSError as error:
            if "pretrained" in given or ":" not in name:
                raise
            raise UnknownModelError(f"{name} cannot be looked up ({first_line(error)})") from error
        except _REFUSALS as error:
            if "pretrained" in given or not given:
                raise
            listed = ", ".join(f"{key}={value!r}" for key, value in given.items())
            raise NullspaceError(f"{name} cannot be built with {listed} ({first_line(error)})") from error


def _faults(ours: Shapes, theirs: Shapes, name: str, path: Path) -> str:
    """How the file differs from the model: in names and shapes."""
    faults = {
        "missing": sorted(ours.keys() - theirs.keys()),
        "unexpected": sorted(theirs.keys() - ours.keys()),
        "of another shape": [
            f"{key} (expected {tuple(ours[key])}, got {tuple(theirs[key])})"
            for key in sorted(ours.keys() & theirs.keys())
            if ours[key] != theirs[key]
        ],
    }
    found = [
        f"{len(keys)} {what}: {', '.join(keys[:_SHOWN])}{', …' * (len(keys) > _SHOWN)}"
        for what, keys in faults.items()
        if keys
    ]
    remedy = "Give the model name the file was made for, and its model arguments where they differ from timm's"
    if len(found) == 1 and faults["unexpected"]:
        remedy = "All of the model is there: save its own state dict, without what was added in training"
    return f"{path} does not hold the weights of {name}: {'; '.join(found)}. {remedy}"
