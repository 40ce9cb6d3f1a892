"""The approximate nullspace of the encoder: learn one noise tensor v (N,D) that hardly changes what the model says.

With E the patch embedding and g the rest of the model, v minimises  mean_x |g(E(x)+v) - g(E(x))|_2  on logits, for a
norm held per token. Works on tokens E(x) and clean logits computed once beforehand.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from nullspace.errors import NullspaceError
from nullspace.geometry import check_token_norm, hold_token_norm, mean_token_norm, relative_norm, remove_shift, spread
from nullspace.radius import Radius, null_radius

if TYPE_CHECKING:
    from nullspace.vit import SplitViT

__all__ = [
    "NoiseLearner",
    "NoiseSettings",
    "Radius",
    "mean_token_norm",
    "null_radius",
    "relative_norm",
    "remove_shift",
    "spread",
]

BETAS, EPSILON = (0.9, 0.999), 1e-8  # Adam's usual constants


@dataclass(frozen=True)
class NoiseSettings:
    """How noise is learned; every value is recorded beside the noise.

    `hold="token"`: every token keeps norm relative_norm * mean token norm (of the data). `hold="free"`: the published
    algorithm, which starts at U(-limit,limit) and leaves the norm free (relative_norm is then ignored), without its
    mistakes: gradients are zeroed, there is no weight decay, and all draws are seeded.
    """

    relative_norm: float | None = 0.5
    learning_rate: float = 0.05
    steps: int = 200
    batch_size: int = 32
    hold: Literal["token", "free"] = "token"
    limit: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.hold not in ("token", "free"):
            raise NullspaceError(f'expected hold "token" or "free", got {self.hold!r}')
        needed = {"learning_rate": self.learning_rate, "steps": self.steps, "batch_size": self.batch_size}
        needed |= {"relative_norm": self.relative_norm} if self.hold == "token" else {"limit": self.limit}
        for name, value in needed.items():
            if value is None or not 0 < value < math.inf:
                raise NullspaceError(f'expected {name} > 0 and finite with hold="{self.hold}", got {value}')


class NoiseLearner:
    """Learns one noise tensor by Adam with a cosine schedule, one `step()` at a time; resumes bit for bit.

    `tokens` (n,N,D) and their clean `logits` (n,K) may stay on the CPU: each batch moves to the model's device. With
    `micro_batch` a batch runs in pieces of that many images: same loss, less memory.
    """

    def __init__(
        self,
        model: SplitViT,
        tokens: Tensor,
        logits: Tensor,
        settings: NoiseSettings,
        *,
        shift_invariant: bool,
        token_norm: float | None = None,
        micro_batch: int | None = None,
    ) -> None:
        """`token_norm`: unit of relative norms (default: of `tokens`). `shift_invariant`: as `shift_test` measured."""
        _check_data(tokens, logits)
        if micro_batch is not None and micro_batch < 1:
            raise NullspaceError(f"expected micro_batch >= 1, got {micro_batch}")
        self.model, self.tokens, self.logits = model, tokens.detach(), logits.detach()
        self.settings, self.shift_invariant, self.micro_batch = settings, shift_invariant, micro_batch
        self.token_norm = mean_token_norm(tokens) if token_norm is None else token_norm
        check_token_norm(self.token_norm)
        self.device = next(model.parameters()).device
        self.steps_done = 0
        self._generator = torch.Generator().manual_seed(settings.seed)  # on the CPU: equal draws on every device
        self._noise = self._hold(self._start().to(self.device))
        self._first, self._second = torch.zeros_like(self._noise), torch.zeros_like(self._noise)
        self._order, self._cursor = torch.empty(0, dtype=torch.int64), 0

    @property
    def noise(self) -> Tensor:
        """The noise (N,D) as learned so far: a float32 copy on the model's device, already held to its norm."""
        return self._noise.clone()

    def step(self) -> float:
        """One Adam step on the next batch; returns the loss before it. Raises NullspaceError when it is not finite.

        Beyond `settings.steps` the learning rate of the cosine is 0, so that is refused.
        """
        if self.steps_done >= self.settings.steps:
            raise NullspaceError(f"all {self.settings.steps} steps are done; ask for more in NoiseSettings(steps=...)")
        loss, gradient = self._loss_and_gradient(self._next_batch())
        updated = self._hold(self._adam(gradient))
        if not (math.isfinite(loss) and bool(torch.isfinite(updated).all())):  # a gradient of NaN shows in `updated`
            raise NullspaceError(
                f"noise learning diverged at step {self.steps_done + 1}: the loss is {loss}, the noise not finite "
                f"(learning_rate {self.settings.learning_rate}, relative_norm {self.settings.relative_norm}, limit "
                f"{self.settings.limit}); lower them, and check that the model gives finite logits in float32"
            )
        self._noise = updated
        self.steps_done += 1
        return loss

    def state_dict(self) -> dict[str, Tensor | int]:
        """Everything a later `step()` depends on besides data and settings: CPU tensors and ints only."""
        tensors = {"noise": self._noise, "first_moment": self._first, "second_moment": self._second}
        state: dict[str, Tensor | int] = {name: value.detach().cpu().clone() for name, value in tensors.items()}
        state |= {"order": self._order.clone(), "generator": self._generator.get_state()}
        return state | {"cursor": self._cursor, "steps_done": self.steps_done}

    def load_state_dict(self, state: Mapping[str, Tensor | int]) -> None:
        """Continue where `state_dict()` was taken. Raises NullspaceError when it belongs to other shapes or data."""
        own = self.state_dict()
        if set(state) != set(own):
            raise NullspaceError(f"expected a learner state with {sorted(own)}, got {sorted(state)}")
        order = _tensor(state, "order")
        if tuple(_tensor(state, "noise").shape) != tuple(self._noise.shape) or len(order) not in (0, len(self.tokens)):
            raise NullspaceError(
                f"expected a state of noise {tuple(self._noise.shape)} over {len(self.tokens)} images, got "
                f"{tuple(_tensor(state, 'noise').shape)} over {len(order)}; resume with the same model and images"
            )
        self._noise, self._first, self._second = (
            _tensor(state, name).to(self.device, torch.float32).clone()
            for name in ("noise", "first_moment", "second_moment")
        )
        self._order, self._cursor, self.steps_done = order.cpu().clone(), int(state["cursor"]), int(state["steps_done"])
        self._generator.set_state(_tensor(state, "generator").cpu())

    def _start(self) -> Tensor:
        shape = self.tokens.shape[1:]
        if self.settings.hold == "free":
            return (torch.rand(shape, generator=self._generator) * 2 - 1) * self.settings.limit
        return torch.randn(shape, generator=self._generator)  # normalised per token: a uniform direction for each

    def _hold(self, noise: Tensor) -> Tensor:
        """Back to the allowed set: no shift part, and with hold="token" the set norm for every token."""
        if self.shift_invariant:
            noise = remove_shift(noise)
        if self.settings.hold == "token" and self.settings.relative_norm is not None:
            noise = hold_token_norm(noise, self.settings.relative_norm * self.token_norm)
        return noise

    def _next_batch(self) -> Tensor:
        """Indices of the next batch: every image once per pass over the data, in seeded order."""
        size = min(self.settings.batch_size, len(self.tokens))
        if self._cursor + size > len(self._order):
            self._order, self._cursor = torch.randperm(len(self.tokens), generator=self._generator), 0
        batch = self._order[self._cursor : self._cursor + size]
        self._cursor += size
        return batch

    def _loss_and_gradient(self, batch: Tensor) -> tuple[float, Tensor]:
        gradient, loss = torch.zeros_like(self._noise), 0.0
        for piece in batch.split(self.micro_batch or len(batch)):
            noise = self._noise.detach().requires_grad_()
            index = piece.to(self.tokens.device)
            tokens = self.tokens[index].to(self.device, torch.float32)
            clean = self.logits[piece.to(self.logits.device)].to(self.device, torch.float32)
            change = self.model.logits_from_tokens(tokens + noise) - clean
            share = torch.linalg.vector_norm(change, dim=-1).sum() / len(batch)
            gradient += torch.autograd.grad(share, noise)[0]
            loss += float(share.detach())
        return loss, gradient

    def _adam(self, gradient: Tensor) -> Tensor:
        """Adam without weight decay, which would shrink the norm; written out so that its state is three tensors."""
        count = self.steps_done + 1
        rate = self.settings.learning_rate * 0.5 * (1 + math.cos(math.pi * self.steps_done / self.settings.steps))
        self._first = BETAS[0] * self._first + (1 - BETAS[0]) * gradient
        self._second = BETAS[1] * self._second + (1 - BETAS[1]) * gradient.square()
        scale = (self._second / (1 - BETAS[1] ** count)).sqrt() + EPSILON
        return self._noise - rate * (self._first / (1 - BETAS[0] ** count)) / scale


def _check_data(tokens: Tensor, logits: Tensor) -> None:
    if tokens.ndim != 3 or logits.ndim != 2 or len(tokens) != len(logits) or len(tokens) == 0:
        raise NullspaceError(
            "expected tokens (n,N,D) and logits (n,K) of the same n >= 1 images, got shapes "
            f"{tuple(tokens.shape)} and {tuple(logits.shape)}"
        )
    bad = int((~torch.isfinite(logits).all(dim=-1)).sum())
    if bad:
        raise NullspaceError(f"clean logits of {bad} of {len(logits)} images are not finite; check weights and images")


def _tensor(state: Mapping[str, Tensor | int], name: str) -> Tensor:
    value = state[name]
    if not isinstance(value, Tensor):
        raise NullspaceError(f"expected a tensor under {name!r} in the learner state, got {type(value).__name__}")
    return value
