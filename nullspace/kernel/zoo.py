"""The exact kernel of every timm model whose name matches, one row per model, whatever becomes of it.

A model that cannot be cut, or whose weights cannot be had, is a row with the reason. Models too large to run are built
without memory for anything but their patch embedding.
"""

from __future__ import annotations

import fnmatch
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import timm
import torch
from torch import nn

from nullspace.errors import NullspaceError, UnknownModelError, WeightsError
from nullspace.kernel.natural import natural_share
from nullspace.kernel.patch_kernel import PatchKernel, kernel_of, patch_kernel
from nullspace.kernel.shift import exact_kernel, shift_test
from nullspace.model.cut import find_stem, layout_of
from nullspace.model.patches import single_convolution
from nullspace.model.preprocessing import Preprocessing, preprocessing_of
from nullspace.model.vit import SplitViT
from nullspace.model.weights import build_model

MAX_PARAMETERS = 400_000_000  # 1.6 GB in float32, and some seconds per forward pass on one core
# What timm's constructors and forward passes raise for models that need what is not there.
_FAILURES = (
    ValueError,
    TypeError,
    RuntimeError,
    AttributeError,
    KeyError,
    IndexError,
    NotImplementedError,
    ImportError,
)
_BUILD_FAILURES = (*_FAILURES, AssertionError, OSError, MemoryError)


@dataclass(frozen=True)
class ZooRow:
    """One model: its patch embedding's kernel, or the reason why there is none to be read off.

    With `modulo_shift` the kernel holds what only shifts a token, which the model was measured to ignore.
    `natural_share` is the share of the energy of natural patches that lies in the kernel, see `natural`.
    `per_channel_nullity` is 3·max(p²-D,0), what taking the colours one by one finds. `shift_directions` is the number
    of tokens when the model was measured to ignore a shift of each, else 0; `shift_measured` says how it was measured
    or why not.
    """

    name: str
    weights: str
    parameters: int | None = None
    embed_dim: int | None = None
    patch_size: tuple[int, int] | None = None
    patch_dim: int | None = None
    tokens: int | None = None
    rank: int | None = None
    nullity: int | None = None
    modulo_shift: bool | None = None
    gap: float | None = None
    natural_share: float | None = None
    per_channel_nullity: int | None = None
    shift_directions: int | None = None
    shift_measured: str = ""
    reason: str = ""
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain JSON values."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


def zoo_names(pattern: str) -> list[str]:
    """timm's model names that match `pattern` (as in a shell: `vit_*`); raises UnknownModelError when none does."""
    names = [name for name in timm.list_models() if fnmatch.fnmatchcase(name, pattern)]
    if not names:
        raise UnknownModelError(
            f"expected a pattern that matches timm models, got {pattern!r}, which matches none of "
            f"{len(timm.list_models())}; quote it in the shell, e.g. 'vit_*'"
        )
    return names


def zoo_rows(
    pattern: str,
    *,
    weights: str,
    seed: int = 0,
    rtol: float | None = None,
    max_parameters: int = MAX_PARAMETERS,
) -> Iterator[ZooRow]:
    """A row for every timm model that matches `pattern`, one at a time, in order of names.

    `weights` is "random" or "pretrained". Above `max_parameters` only the patch embedding is made, with random weights,
    and shifts are not measured.
    """
    if weights not in ("random", "pretrained"):
        raise NullspaceError(f"expected weights 'random' or 'pretrained', got {weights!r}: the zoo has no one file")
    for name in zoo_names(pattern):
        yield zoo_row(name, weights=weights, seed=seed, rtol=rtol, max_parameters=max_parameters)


def zoo_row(
    name: str,
    *,
    weights: str,
    seed: int = 0,
    rtol: float | None = None,
    max_parameters: int = MAX_PARAMETERS,
) -> ZooRow:
    """The row of one timm model; what it cannot do stands in `reason`, nothing is raised for it."""
    began, facts = time.perf_counter(), dict[str, Any]()
    try:
        outline = _without_memory(name)
        facts["parameters"] = None if outline is None else _count(outline)
        if outline is not None and _count(outline) > max_parameters:
            facts |= _by_stem_alone(outline, weights, seed, rtol, max_parameters)
        else:
            facts |= _by_whole_model(name, weights, seed, rtol)
    except _BUILD_FAILURES as error:
        facts["reason"] = str(error) if isinstance(error, NullspaceError) else f"{type(error).__name__}: {error}"
    facts["reason"] = " ".join(facts.get("reason", "").split())
    return ZooRow(name=name, weights=weights, seconds=time.perf_counter() - began, **facts)


def _without_memory(name: str) -> nn.Module | None:
    """The model with shapes only; None where timm cannot build one so."""
    try:
        with torch.device("meta"):
            return timm.create_model(name).eval()
    except _BUILD_FAILURES:
        return None


def _count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _by_whole_model(name: str, weights: str, seed: int, rtol: float | None) -> dict[str, Any]:
    model = build_model(name, weights=weights, seed=seed).model
    facts: dict[str, Any] = {"parameters": _count(model)}
    split = SplitViT(model, name=name, verify=False, copy_model=False)
    facts |= {"embed_dim": split.embed_dim, "tokens": split.num_patches}
    try:
        facts |= _kernel_facts(_exact(split, seed, rtol), split.patch_size, split.preprocessing)
    except NullspaceError as error:
        facts["reason"] = str(error)
    return facts | _shift_facts(split, seed)


def _exact(model: SplitViT, seed: int, rtol: float | None) -> PatchKernel:
    """The exact kernel, modulo the shift where that can be measured; of a model that does not run, that of A."""
    try:
        return exact_kernel(model, _image(model, seed), rtol=rtol, seed=seed)
    except NullspaceError:
        raise
    except (*_FAILURES, AssertionError):
        return patch_kernel(model, rtol=rtol)


def _image(model: SplitViT, seed: int) -> torch.Tensor:
    """One image of uniform noise (1,3,H,W)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(1, 3, *model.preprocessing.input_size, generator=generator)


def _by_stem_alone(model: nn.Module, weights: str, seed: int, rtol: float | None, limit: int) -> dict[str, Any]:
    """Facts of a model without memory, of which only the patch embedding is made."""
    size = f"{_count(model) / 1e6:.0f} million parameters"
    if weights != "random":
        raise WeightsError(
            f"{size} are more than max_parameters ({limit / 1e6:.0f} million), and pretrained weights come whole; "
            "raise max_parameters"
        )
    stem = _materialised(getattr(model, find_stem(model)), seed)
    preprocessing = preprocessing_of(model)
    layout = layout_of(stem, preprocessing.input_size)
    why = f"not measured: {size} are over the limit of {limit / 1e6:.0f} million"
    facts: dict[str, Any] = {"embed_dim": layout.embed_dim, "tokens": layout.grid[0] * layout.grid[1]}
    facts |= {"shift_directions": 0, "shift_measured": why}
    try:
        convolution = single_convolution(stem, layout.grid, preprocessing.input_size)
    except NullspaceError as error:
        return facts | {"reason": str(error)}
    height, width = convolution.kernel_size
    return facts | _kernel_facts(
        kernel_of(convolution.weight, preprocessing.std, rtol=rtol), (int(height), int(width)), preprocessing
    )


def _materialised(stem: nn.Module, seed: int) -> nn.Module:
    """The stem on the CPU with torch's default initialisation by `seed`, layer by layer."""
    stem = stem.to_empty(device="cpu").requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        for parameter in stem.parameters():
            nn.init.normal_(parameter, std=0.02)  # for parameters no layer below initialises itself
        for module in stem.modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()
    return stem.eval()


def _kernel_facts(kernel: PatchKernel, patch_size: tuple[int, int], preprocessing: Preprocessing) -> dict[str, Any]:
    return {
        "patch_size": patch_size,
        "patch_dim": kernel.patch_dim,
        "rank": kernel.rank,
        "nullity": kernel.nullity,
        "modulo_shift": kernel.modulo_shift,
        "gap": kernel.to_dict()["gap"],
        "natural_share": natural_share(kernel, patch_size, preprocessing.input_size),
        "per_channel_nullity": 3 * max(patch_size[0] * patch_size[1] - kernel.embed_dim, 0),
    }


def _shift_facts(model: SplitViT, seed: int) -> dict[str, Any]:
    """Shift invariance on one image of uniform noise; a case in doubt turns the model to float64."""
    image = _image(model, seed)
    try:
        found, precision = shift_test(model, image, seed=seed), "float32"
        if found.in_doubt:
            found, precision = shift_test(model.double(), image, seed=seed), "float64"
    except (*_FAILURES, AssertionError) as error:
        description = f"not measured: the model does not run from its tokens alone ({type(error).__name__}: {error})"
        return {"shift_directions": 0, "shift_measured": " ".join(description.split())}
    if found.control_max_abs_logit_change == 0:
        return {"shift_directions": 0, "shift_measured": "undecided: the control of equal norm changes no logit either"}
    share = found.max_abs_logit_change / found.control_max_abs_logit_change
    description = f"logits change by {share:.1e} of the control at {found.relative_shift:g} token norms, {precision}"
    return {"shift_directions": model.num_patches if found.invariant else 0, "shift_measured": description}
