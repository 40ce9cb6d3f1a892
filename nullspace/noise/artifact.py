"""`NullNoise` on disk: safetensors with JSON metadata in its header and a hash over both; never pickle."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol, Self

import safetensors
import safetensors.torch
import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from nullspace.errors import ArtifactError, NullspaceError
from nullspace.files import save_whole
from nullspace.metrics.norms import total_norm
from nullspace.metrics.unit import Unit
from nullspace.model.encoder import PATCH_TOKENS, Encoder, block_of
from nullspace.model.shapes import Float
from nullspace.model.token_hook import add_to_tokens
from nullspace.model.vit import SplitViT
from nullspace.paths import SAVE_HERE, local_path

FORMAT = "nullspace-null-noise/1"
_TENSOR = "noise"


class KnownModel(Protocol):
    """What identifies the model of a noise; a `SplitViT` has both."""

    @property
    def name(self) -> str: ...
    @property
    def weights_sha256(self) -> str: ...


@dataclass(frozen=True, eq=False, kw_only=True)
class NullNoise:
    """One null noise (N,D) float32 for all images, the model it belongs to, and what was measured when it was made.

    `norm` is of the whole tensor and `effective_norm` of what is left of it without the shift part, which a shift
    invariant model ignores; `token_norm` is the mean token norm of the data, `relative_norm` and `spread` are as in the
    glossary. `injection` is where it is added: "patch_tokens", or "block:k" for the patch tokens before block k.
    `settings` and `versions` are plain JSON values. Raises ArtifactError when a field does not fit.
    """

    tensor: Float[Tensor, "N D"]
    model_name: str
    weights_sha256: str
    norm: float
    effective_norm: float
    relative_norm: float
    spread: float
    token_norm: float
    shift_invariant: bool
    objective: str
    seed: int
    data_fingerprint: str
    injection: str = PATCH_TOKENS
    settings: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.tensor.ndim != 2 or self.tensor.dtype != torch.float32:
            raise ArtifactError(
                f"expected a noise tensor (N,D) of float32, got {self.tensor.dtype} of shape {tuple(self.tensor.shape)}"
            )
        if not bool(torch.isfinite(self.tensor).all()):
            raise ArtifactError("expected finite noise, got NaN or infinity; learn it again with a smaller step")
        try:
            block_of(self.injection)
        except NullspaceError as error:
            raise ArtifactError(f"{error}; update this software") from error

    @classmethod
    def of(
        cls,
        tensor: Float[Tensor, "N D"],
        unit: Unit,
        *,
        model: KnownModel,
        objective: str,
        seed: int,
        data_fingerprint: str,
        injection: str = PATCH_TOKENS,
        settings: dict[str, Any] | None = None,
    ) -> Self:
        """Noise (N,D) of `model`, with its norms measured in `unit` and the versions of what computed it."""
        return cls(
            tensor=tensor.detach().cpu().float(),
            model_name=model.name,
            weights_sha256=model.weights_sha256,
            norm=total_norm(tensor),
            effective_norm=total_norm(unit.effective(tensor)),
            relative_norm=unit.relative_norm(tensor),
            spread=unit.spread(tensor),
            token_norm=unit.token_norm,
            shift_invariant=unit.shift_invariant,
            objective=objective,
            seed=seed,
            data_fingerprint=data_fingerprint,
            injection=injection,
            settings=settings or {},
            versions=library_versions(),
        )

    @property
    def unit(self) -> Unit:
        """What its norms are measured in."""
        return Unit(self.token_norm, self.shift_invariant)

    def save(self, path: str | Path) -> None:
        """Write the file, whole or not at all. Raises ArtifactError when the metadata is not plain JSON."""
        path = local_path(path, "noise file", SAVE_HERE)
        tensor = self.tensor.detach().cpu().contiguous()
        text = self._metadata()
        header = {"format": FORMAT, "metadata": text, "sha256": _digest(tensor, text)}
        save_whole(path, {_TENSOR: tensor}, header, "noise")

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a file written by `save`, on the CPU; raises ArtifactError when it is missing, damaged or foreign."""
        path = local_path(path, "noise file")
        tensor, header = _read(path)
        if header.get("format") != FORMAT or tensor is None:
            found = header.get("format", "no such mark")
            raise ArtifactError(
                f"expected {path} to be a noise file ({FORMAT}), got {found!r}; give a file from `save`"
            )
        text = header.get("metadata", "")
        if header.get("sha256") != _digest(tensor, text):
            raise ArtifactError(f"{path} is damaged: its sha256 does not match its content; fetch or make it again")
        try:
            return cls(tensor=tensor, **json.loads(text))
        except (TypeError, json.JSONDecodeError) as error:
            raise ArtifactError(
                f"{path} has metadata this version does not read ({error}); update this software"
            ) from error

    @contextmanager
    def apply(self, model: SplitViT, scale: float = 1.0, *, check_weights: bool = True) -> Iterator[SplitViT]:
        """Within the block, `scale` times the noise is added to every patch token of `model`; nested uses add up.

        A hook does it, so `model(images)` has it and, for noise on the patch tokens, `model.tokens(images)` too. It is
        gone after the block, also after an error. Raises ArtifactError for another model.
        """
        self._check_fits(model, check_weights)
        parameter = next(model.stem.parameters())
        hook = self._hook(model, (scale * self.tensor).to(parameter.device, parameter.dtype))
        try:
            yield model
        finally:
            hook.remove()

    def _hook(self, model: SplitViT, noise: Tensor) -> RemovableHandle:
        if self.injection == PATCH_TOKENS:
            return add_to_tokens(model, noise)
        encoder = Encoder(model, self.injection)  # checks that the model can be entered there
        block = model.model.get_submodule(f"blocks.{encoder.block}")
        return block.register_forward_pre_hook(lambda _module, inputs: (encoder.add(inputs[0], noise), *inputs[1:]))

    def _check_fits(self, model: SplitViT, check_weights: bool) -> None:
        expected, got = (model.num_patches, model.embed_dim), tuple(self.tensor.shape)
        if got != expected:
            raise ArtifactError(
                f"expected noise of shape {expected} for {model.name}, got {got} made for {self.model_name}"
            )
        if check_weights and self.weights_sha256 != model.weights_sha256:
            raise ArtifactError(
                f"the noise was made for {self.model_name} with weights {self.weights_sha256[:12]}, got {model.name} "
                f"with weights {model.weights_sha256[:12]}; load those weights, or "
                "pass check_weights=False to transfer it"
            )

    def _metadata(self) -> str:
        values = {item.name: getattr(self, item.name) for item in fields(self) if item.name != "tensor"}
        bad = [name for name, value in values.items() if isinstance(value, float) and not math.isfinite(value)]
        if bad:
            raise ArtifactError(f"expected finite numbers in the metadata, got {values[bad[0]]} as {bad[0]}")
        try:
            return json.dumps(values, sort_keys=True, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ArtifactError(f"expected settings and versions of plain JSON values: {error}") from error


def library_versions() -> dict[str, str]:
    """Versions of what the noise was computed with, by distribution name; those not installed are left out."""
    found = {}
    for name in ("nullspace-vit", "torch", "timm", "numpy"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _read(path: Path) -> tuple[Tensor | None, dict[str, str]]:
    if not path.is_file():
        raise ArtifactError(f"expected a noise file, got {str(path)!r}, which is no file; check the path")
    try:
        with safetensors.safe_open(path, framework="pt") as opened:
            tensor = opened.get_tensor(_TENSOR) if _TENSOR in opened.keys() else None  # noqa: SIM118  not a mapping
            return tensor, dict(opened.metadata() or {})
    except (safetensors.SafetensorError, OSError) as error:
        raise ArtifactError(f"{path} is damaged or no safetensors file ({error}); fetch or make it again") from error


def _digest(tensor: Tensor, text: str) -> str:
    """sha256 over shape, dtype and bytes of the tensor and over the metadata text."""
    digest = hashlib.sha256(f"{FORMAT}|{tuple(tensor.shape)}|{tensor.dtype}|{text}|".encode())
    digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()
