"""`Encoder`: g, what a model makes of its state at an injection point: the patch tokens, or what enters a block.

At the patch tokens the state is (B,N,D), before class token and position embedding. Before block k it is (B,P+N,D) with
P prefix tokens. Noise (N,D), or (B,N,D) for one per image, is added to the patch tokens only, so that both read alike.
"""

from __future__ import annotations

import copy
import re
from typing import Any

import torch
from torch import Tensor, nn

from nullspace.errors import CannotCutError, NullspaceError
from nullspace.model.shapes import Float
from nullspace.model.vit import CUT_TOLERANCE, Outputs, SplitViT

PATCH_TOKENS = "patch_tokens"
_BLOCK = re.compile(r"block:(\d+)")


class Encoder:
    """The part of `model` behind an injection point, "patch_tokens" or "block:k" (before block k, from 0).

    Raises NullspaceError on an unknown point, CannotCutError when the model cannot be entered there.
    """

    def __init__(self, model: SplitViT, injection: str = PATCH_TOKENS) -> None:
        self.model, self.injection = model, injection
        self.block = _existing_block(model, injection)
        self.prefix = 0
        if self.block is not None:
            self._rest, self._entry = _enter_at(model, self.block)
            self._verify()

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    @property
    def noise_shape(self) -> tuple[int, int]:
        """(N,D) of noise for this point."""
        return self.model.num_patches, self.model.embed_dim

    def states(self, images: Float[Tensor, "B 3 H W"], check_range: bool = True) -> Float[Tensor, "B S D"]:
        """State at the injection point of images (B,3,H,W) in [0,1]: (B,N,D), or (B,P+N,D) before a block."""
        tokens = self.model.tokens(images, check_range)
        return tokens if self.block is None else self._states_before_block(tokens)

    def patch_part(self, states: Float[Tensor, "B S D"]) -> Float[Tensor, "B N D"]:
        """The patch tokens (B,N,D) of states: what noise is added to and its norm is compared with."""
        return states[:, self.prefix :]

    def add(
        self, states: Float[Tensor, "B S D"], noise: Float[Tensor, "N D"] | Float[Tensor, "B N D"]
    ) -> Float[Tensor, "B S D"]:
        """States with noise (N,D) or (B,N,D) on their patch tokens."""
        if self.prefix == 0:
            return states + noise
        return torch.cat([states[:, : self.prefix], states[:, self.prefix :] + noise], dim=1)

    def outputs(self, states: Float[Tensor, "B S D"]) -> Outputs:
        """Features (B,F) and logits (B,K) of states."""
        if self.block is None:
            return self.model.outputs_from_tokens(states)
        rest, encoded = self._encoded(states)
        return Outputs(features=rest.forward_head(encoded, pre_logits=True), logits=rest.forward_head(encoded))

    def logits(self, states: Float[Tensor, "B S D"]) -> Float[Tensor, "B K"]:
        """Logits (B,K) of states."""
        if self.block is None:
            return self.model.logits_from_tokens(states)
        rest, encoded = self._encoded(states)
        return rest.forward_head(encoded)

    def _encoded(self, states: Tensor) -> tuple[Any, Tensor]:
        rest: Any = self._rest
        # What is given here is dropped at the entry; it only has to have the shape that the model expects.
        blank = states.new_zeros(len(states), *self.noise_shape)
        with self._entry.feeding(states):
            return rest, rest.forward_features(self.model.layout.from_tokens(blank))

    def _states_before_block(self, tokens: Tensor) -> Tensor:
        seen: list[Tensor] = []
        block = self.model.model.get_submodule(f"blocks.{self.block}")
        hook = block.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
        try:
            self.model.logits_from_tokens(tokens)
        finally:
            hook.remove()
        count, dim = self.noise_shape
        if len(seen) != 1 or seen[0].ndim != 3 or seen[0].shape[1] < count or seen[0].shape[2] != dim:
            found = [tuple(state.shape[1:]) for state in seen]
            raise CannotCutError(
                f"expected one state of at least {count} tokens of {dim} before block {self.block} of "
                f"{self.model.name}, got {found}; inject at {PATCH_TOKENS!r} instead"
            )
        return seen[0]

    @torch.no_grad()
    def _verify(self) -> None:
        size = self.model.preprocessing.input_size
        tokens = self.model.tokens(torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0)))
        whole = self.model.outputs_from_tokens(tokens).features
        state = self._states_before_block(tokens)
        # Measured, not declared: some models put their class token in front only behind the blocks.
        self.prefix = state.shape[1] - self.noise_shape[0]
        entered = self.outputs(state).features
        if float((whole - entered).abs().max()) > CUT_TOLERANCE * float(whole.abs().max()):
            raise CannotCutError(
                f"{self.model.name} gives other features when entered before block {self.block}: more than that "
                f"state reaches the later blocks; inject at {PATCH_TOKENS!r} instead"
            )


class _Skip(nn.Module):
    """Stands for a block before the entry: does nothing."""

    def forward(self, state: Tensor, *_options: Any, **_named_options: Any) -> Tensor:
        return state


class _Entry(nn.Module):
    """Stands for the block at the entry: runs it on the state it was fed instead of the one it is given."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block
        self._fed: list[Tensor] = []

    def feeding(self, states: Tensor) -> _Feeding:
        return _Feeding(self._fed, states)

    def forward(self, _state: Tensor, *options: Any, **named_options: Any) -> Tensor:
        return self.block(self._fed[-1], *options, **named_options)


class _Feeding:
    """Within the block, the entry has `states`; nothing of them stays behind."""

    def __init__(self, fed: list[Tensor], states: Tensor) -> None:
        self._fed, self._states = fed, states

    def __enter__(self) -> None:
        self._fed.append(self._states)

    def __exit__(self, *_error: object) -> None:
        self._fed.pop()


def block_of(injection: str) -> int | None:
    """Number of the block an injection point is before; None for the patch tokens. Raises NullspaceError on another."""
    if injection == PATCH_TOKENS:
        return None
    matched = _BLOCK.fullmatch(injection)
    if matched is None:
        raise NullspaceError(f"expected an injection point {PATCH_TOKENS!r} or 'block:0', got {injection!r}")
    return int(matched.group(1))


def _existing_block(model: SplitViT, injection: str) -> int | None:
    index = block_of(injection)
    if index is None:
        return None
    blocks = getattr(model.model, "blocks", None)
    if not isinstance(blocks, (nn.Sequential, nn.ModuleList)):
        raise CannotCutError(
            f"{model.name} has no plain sequence of blocks to enter ({type(model.model).__name__}); inject at "
            f"{PATCH_TOKENS!r}"
        )
    if index >= len(blocks):
        raise NullspaceError(f"expected a block below {len(blocks)} of {model.name}, got {injection!r}")
    return index


def _enter_at(model: SplitViT, index: int) -> tuple[Any, _Entry]:
    """The model behind its patch embedding with the blocks before `index` left out, and its entry; nothing is altered.

    Shallow copies: parameters stay shared, and the model's own forward_features runs what follows the entry.
    """
    rest = copy.copy(model._rest[0])
    rest.__dict__["_modules"] = dict(rest._modules)
    blocks: Any = rest._modules["blocks"]
    entry = _Entry(blocks[index])
    modules = [_Skip() if i < index else entry if i == index else block for i, block in enumerate(blocks)]
    rest._modules["blocks"] = type(blocks)(*modules) if isinstance(blocks, nn.Sequential) else type(blocks)(modules)
    return rest, entry
