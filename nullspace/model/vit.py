"""`SplitViT`: a timm ViT cut at its patch embedding, with images in [0,1] and normalisation inside."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from nullspace.errors import CannotCutError, NullspaceError
from nullspace.model import patches as patch_grid
from nullspace.model.cut import TokenLayout, find_stem, layout_of, rest_of
from nullspace.model.device import choose_device
from nullspace.model.preprocessing import Preprocessing, check_images, preprocessing_of
from nullspace.model.shapes import Float, Shaped
from nullspace.model.weights import build_model, weights_hash

CUT_TOLERANCE = 1e-4  # of the largest logit; the same operations run on both ways, so they agree to rounding


@dataclass(frozen=True)
class Outputs:
    """What the model makes of a batch: `features` (B,F) before the classifier and `logits` (B,K)."""

    features: Float[Tensor, "B F"]
    logits: Float[Tensor, "B K"]


class SplitViT(nn.Module):
    """A timm ViT as E then g: `tokens(images)` is E, `logits_from_tokens(tokens)` is g, and g(E(x)) is the model.

    Always in eval mode and frozen. `weights_sha256` names the weights as loaded, also after `.half()` or `.double()`.
    A model without a classifier (timm's num_classes 0, e.g. dinov2) has its features as logits and `num_classes` 0.
    """

    preprocessing: Preprocessing
    layout: TokenLayout  # how the patch embedding orders its tokens, for hooks on `stem`

    def __init__(
        self,
        model: nn.Module,
        *,
        name: str,
        weights_source: str = "given",
        notes: tuple[str, ...] = (),
        verify: bool = True,
        copy_model: bool = True,
    ) -> None:
        """Cut `model`, of which a copy is taken so that yours keeps its mode, gradients and hooks.

        `verify` compares the two halves with the whole on one random image. Raises CannotCutError.
        """
        super().__init__()
        self.name, self.weights_source, self.notes = name, weights_source, notes
        self.model = (copy.deepcopy(model) if copy_model else model).eval().requires_grad_(False)
        self.weights_sha256 = weights_hash(self.model)
        self.preprocessing = preprocessing_of(self.model)
        self._stem_name = find_stem(self.model)
        # In a tuple: a second view of the same parameters, not a second set of them.
        self._rest = (rest_of(self.model, self._stem_name),)
        self.layout = layout_of(self.stem, self.preprocessing.input_size)
        if verify:
            self._verify()

    @classmethod
    def load(
        cls,
        name: str,
        *,
        weights: str | Path = "pretrained",
        seed: int = 0,
        device: str | torch.device = "cpu",
        verify: bool = True,
        model_args: Mapping[str, Any] | None = None,
        ema: bool = True,
    ) -> Self:
        """The timm model `name`, cut, with weights "pretrained", "random" (by `seed`) or from a file.

        `model_args` go to `timm.create_model`; number of classes and input size follow from a file's shapes, and are
        stated in `notes`. `ema` takes averaged weights where a file has them. `name` may also be `local-dir:FOLDER` or
        `hf-hub:ORG/NAME`. Raises UnknownModelError, WeightsError, CannotCutError, DeviceError.
        """
        where = choose_device(str(device))
        built = build_model(name, weights=weights, seed=seed, model_args=model_args, ema=ema)
        return cls(
            built.model.to(where),
            name=name,
            weights_source=built.source,
            notes=built.notes,
            verify=verify,
            copy_model=False,
        )

    def train(self, mode: bool = True) -> Self:
        """Stays in eval mode: with dropout or batch statistics the same tokens would not give the same logits."""
        del mode
        return super().train(False)

    @property
    def stem(self) -> nn.Module:
        """The patch embedding: hooks belong here."""
        return getattr(self.model, self._stem_name)

    @property
    def embed_dim(self) -> int:
        """Length D of a token."""
        return self.layout.embed_dim

    @property
    def grid(self) -> tuple[int, int]:
        """Patches per column and per row of the image (gh,gw)."""
        return self.layout.grid

    @property
    def num_patches(self) -> int:
        """Number N of patch tokens."""
        return self.grid[0] * self.grid[1]

    @property
    def num_classes(self) -> int:
        """Width K of the logits, 0 for a model without classifier (its logits are its features)."""
        return int(getattr(self.model, "num_classes", 0))

    @property
    def num_prefix_tokens(self) -> int:
        """Class, distillation and register tokens the model puts before the patch tokens."""
        return int(getattr(self.model, "num_prefix_tokens", 0))

    @cached_property
    def patch_projection(self) -> nn.Conv2d:
        """The patch embedding's convolution; raises CannotCutError with the reason when the stem is not just that."""
        # Kept, because finding out runs the stem once, and every look at the patch size would pay for it.
        return patch_grid.single_convolution(self.stem, self.grid, self.preprocessing.input_size)

    @property
    def patch_size(self) -> tuple[int, int]:
        """Height and width of a patch in pixels."""
        height, width = self.patch_projection.kernel_size
        return int(height), int(width)

    def forward(self, images: Float[Tensor, "B 3 H W"], check_range: bool = True) -> Float[Tensor, "B K"]:
        """Logits (B,K) of images (B,3,H,W) in [0,1], by the uncut model."""
        return self.model(self._normalised(images, check_range))

    def tokens(self, images: Float[Tensor, "B 3 H W"], check_range: bool = True) -> Float[Tensor, "B N D"]:
        """Tokens (B,N,D) of images (B,3,H,W) in [0,1]; raises ImageRangeError, NullspaceError on another size."""
        return self.layout.to_tokens(self.stem(self._normalised(images, check_range)))

    def outputs_from_tokens(self, tokens: Float[Tensor, "B N D"]) -> Outputs:
        """Features and logits of tokens (B,N,D)."""
        rest, encoded = self._encode(tokens)
        return Outputs(features=rest.forward_head(encoded, pre_logits=True), logits=rest.forward_head(encoded))

    def logits_from_tokens(self, tokens: Float[Tensor, "B N D"]) -> Float[Tensor, "B K"]:
        """Logits (B,K) of tokens (B,N,D)."""
        rest, encoded = self._encode(tokens)
        return rest.forward_head(encoded)

    def features_from_tokens(self, tokens: Float[Tensor, "B N D"]) -> Float[Tensor, "B F"]:
        """Features (B,F), pooled and before the classifier, of tokens (B,N,D)."""
        rest, encoded = self._encode(tokens)
        return rest.forward_head(encoded, pre_logits=True)

    def patchify(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B N pixels"]:
        """Images (B,3,H,W) to patches (B,N,3p²), each in the order of the convolution's weight."""
        return patch_grid.patchify(images, self.patch_size)

    def unpatchify(self, patches: Shaped[Tensor, "B N pixels"]) -> Shaped[Tensor, "B 3 H W"]:
        """Patches (B,N,3p²) back to images (B,3,H,W)."""
        return patch_grid.unpatchify(patches, self.patch_size, self.grid)

    def _encode(self, tokens: Tensor) -> tuple[Any, Tensor]:
        expected = (self.num_patches, self.embed_dim)
        if tokens.ndim != 3 or tuple(tokens.shape[1:]) != expected:
            raise NullspaceError(f"expected tokens (B,{expected[0]},{expected[1]}), got shape {tuple(tokens.shape)}")
        rest: Any = self._rest[0]
        return rest, rest.forward_features(self.layout.from_tokens(tokens))

    def _normalised(self, images: Tensor, check_range: bool) -> Tensor:
        check_images(images, self.preprocessing.input_size, check_range)
        parameter = next(self.model.parameters())
        return self.preprocessing.normalise(images.to(parameter.device)).to(parameter.dtype)

    def _verify(self) -> None:
        image = torch.rand(1, 3, *self.preprocessing.input_size, generator=torch.Generator().manual_seed(0))
        model: Any = self.model
        with torch.no_grad():
            # The features too: a head of zeros, as some fresh models have, would agree with anything.
            features = model.forward_head(model.forward_features(self._normalised(image, True)), pre_logits=True)
            whole = Outputs(features, self.forward(image))
            try:
                halves = self.outputs_from_tokens(self.tokens(image))
            except (TypeError, ValueError, RuntimeError, AttributeError, AssertionError) as error:
                raise CannotCutError(f"{self.name} cannot run from its tokens alone: {error}") from error
        if not (_agree(whole.features, halves.features) and _agree(whole.logits, halves.logits)):
            raise CannotCutError(
                f"{self.name} gives other outputs from its tokens than from its image: more than the patch embedding "
                "reads the image; choose a ViT whose patch embedding is its only input"
            )


def _agree(whole: Any, halves: Any) -> bool:
    if not isinstance(whole, Tensor) or not isinstance(halves, Tensor) or whole.shape != halves.shape:
        return False
    return float((whole - halves).abs().max()) <= CUT_TOLERANCE * float(whole.abs().max())
