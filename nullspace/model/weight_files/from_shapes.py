"""What the shapes in a weights file say about the model they were made for: number of classes, size of its input."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from nullspace.errors import WeightsError

Shapes = Mapping[str, torch.Size]
_POSITIONS, _PATCHES = "pos_embed", "patch_embed.proj.weight"
_TABLE = "relative_position_bias_table"


def shapes_of(state: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    """Shapes by name."""
    return {name: tensor.shape for name, tensor in state.items()}


def without_wrappers(state: Mapping[str, Tensor], expected: Collection[str]) -> tuple[dict[str, Tensor], Shapes]:
    """The state without the prefix that wrappers (`model.`, `backbone.`, …) put before every name, and its shapes.

    Where some names lack the prefix the state stays as it is, for timm may know such files; the shapes have it off
    wherever it stands, so that the others show.
    """
    prefix = _prefix(state, expected)
    shapes = {name.removeprefix(prefix): tensor.shape for name, tensor in state.items()}
    if not all(name.startswith(prefix) for name in state):
        return dict(state), shapes
    return {name.removeprefix(prefix): tensor for name, tensor in state.items()}, shapes


def _prefix(names: Collection[str], expected: Collection[str]) -> str:
    """What stands before a name of the model in the file; "" where some stand as they are, or none do."""
    if any(name in expected for name in names):
        return ""
    anchor = next((name for name in expected if name == _PATCHES), next(iter(expected), ""))
    found = {name.removesuffix(anchor) for name in names if name.endswith(f".{anchor}")}
    return found.pop() if len(found) == 1 else ""


def arguments_from_shapes(
    model: nn.Module, stored: Shapes, given: Mapping[str, Any]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Arguments of `timm.create_model` that `stored` asks for and `given` lacks, and notes that say so.

    `model` is the one made with `given`, memory is not needed. Raises WeightsError where shapes leave it open.
    """
    heads, expected = classifiers(model), shapes_of(model.state_dict())
    ours, theirs = ({name for name in names if not _is_head(name, heads)} for names in (expected, stored))
    if ours != theirs:
        return {}, ()  # another model, or names that timm converts: their shapes say nothing yet
    arguments: dict[str, Any] = {}
    sizes: list[str] = []
    notes: list[str] = []
    classes = _classes(stored, heads)
    if "num_classes" not in given and classes is not None and classes != getattr(model, "num_classes", classes):
        arguments["num_classes"] = classes
        if classes:
            sizes.append(f"{classes} classes")
        else:
            notes.append(f"no head in the file ({', '.join(f'{head}.weight' for head in heads)}): features, no classes")
    size = None if "img_size" in given else _input_size(model, stored, expected)
    if size is not None:
        arguments["img_size"] = size
        sizes.append(f"{size[0]}x{size[1]} input")
    if sizes:
        notes.insert(0, f"{' and '.join(sizes)} from the file's shapes")
    return arguments, tuple(notes)


def classifiers(model: nn.Module) -> tuple[str, ...]:
    """Names of the classifiers as timm declares or knows them; a distilled model has two."""
    declared = getattr(model, "pretrained_cfg", {}).get("classifier") or ()
    if declared:
        return (declared,) if isinstance(declared, str) else tuple(declared)
    known = model.get_classifier() if hasattr(model, "get_classifier") else None  # pyright: ignore[reportCallIssue]
    return tuple(name for name, module in model.named_modules() if module is known)


def _is_head(name: str, heads: Collection[str]) -> bool:
    return any(name in (f"{head}.weight", f"{head}.bias") for head in heads)


def _classes(stored: Shapes, heads: Collection[str]) -> int | None:
    """Classes of the heads in the file, 0 without a head, None where heads are not declared."""
    found = {stored[f"{head}.weight"][0] for head in heads if f"{head}.weight" in stored}
    if len(found) > 1:
        raise WeightsError(
            f"the heads {', '.join(heads)} of the file differ in their number of classes: {sorted(found)}"
        )
    return found.pop() if found else (0 if heads else None)


def _input_size(model: nn.Module, stored: Shapes, expected: Shapes) -> tuple[int, int] | None:
    """Input size (H,W) at which the model's position embedding has the file's shape; None where it has it already."""
    stem: Any = getattr(model, "patch_embed", None)
    grid, patch = getattr(stem, "grid_size", None), getattr(stem, "patch_size", None)
    if not grid or not patch or stored.get(_PATCHES) != expected.get(_PATCHES):
        return None
    found = _grid_of_positions(stored, expected, grid) or _grid_of_table(stored, expected, grid)
    return None if found is None else (found[0] * patch[0], found[1] * patch[1])


def _grid_of_positions(stored: Shapes, expected: Shapes, grid: tuple[int, int]) -> tuple[int, int] | None:
    theirs, ours = stored.get(_POSITIONS), expected.get(_POSITIONS)
    if theirs is None or ours is None or theirs == ours or len(theirs) != len(ours) or theirs[-1] != ours[-1]:
        return None
    if len(theirs) == 4:  # (1,H,W,D)
        return theirs[1], theirs[2]
    patches = theirs[1] - (ours[1] - grid[0] * grid[1])  # without class, distillation and register tokens
    side = math.isqrt(max(patches, 0))
    if side * side != patches or not side:
        raise WeightsError(
            f"{_POSITIONS} of the file has {patches} patches, which form no square; say which input it was made for "
            "by the model argument img_size, e.g. img_size=[224, 448]"
        )
    return side, side


def _grid_of_table(stored: Shapes, expected: Shapes, grid: tuple[int, int]) -> tuple[int, int] | None:
    """From BEiT's tables of relative positions over the whole grid: (2h-1)·(2w-1) rows and 3 of the class token."""
    table = next((name for name in expected if name.endswith(_TABLE)), None)
    if table is None or stored[table] == expected[table]:
        return None
    extra = expected[table][0] - (2 * grid[0] - 1) * (2 * grid[1] - 1)
    side = math.isqrt(max(stored[table][0] - extra, 0))
    if extra not in (0, 3) or side * side != stored[table][0] - extra or side % 2 == 0:
        return None
    return (side + 1) // 2, (side + 1) // 2
