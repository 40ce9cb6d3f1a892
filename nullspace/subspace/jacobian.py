"""How a model's answer moves with noise to first order: J = d answer / d noise (N,D) at an injection point.

J is never formed. Rows of it come from vector-Jacobian products; JᵀJ times a vector is a Jacobian-vector
product and then one of those.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from nullspace.errors import NullspaceError
from nullspace.model.encoder import Encoder

Output = Literal["probabilities", "logits"]
OUTPUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "probabilities": lambda logits: logits.softmax(-1),
    "logits": lambda logits: logits,
}

RANDOM = 2
"""Random cotangents per image beside the exact ones: the fewest that have a scatter to estimate an error from."""


@dataclass(frozen=True)
class JacobianRows:
    """Some rows c·J per image (B,q,N,D): summed over q, their outer products are JᵀJ in the mean over the draws.

    The first `exact` belong to single outputs and are no draws; the others share out what those leave of JᵀJ.
    """

    rows: Tensor
    exact: int

    def energy(self) -> tuple[Tensor, Tensor]:
        """Estimate of |J|² per image (B,), and the variance of that estimate (B,) over the draws; on the CPU."""
        squares = self.rows.detach().flatten(2).square().sum(-1).cpu().double()
        drawn = squares[:, self.exact :]
        if drawn.shape[1] == 0:
            return squares.sum(1), torch.zeros(len(squares), dtype=torch.float64)
        return squares.sum(1), drawn.var(dim=1) * drawn.shape[1]  # m independent terms: variance m times that of one


class Linearised:
    """The answers of `encoder` to `states` (n,S,D), differentiated by one noise (N,D) added to them all.

    `states` may stay on the CPU; `micro_batch` of them move to the model's device at a time. Raises NullspaceError.
    """

    def __init__(
        self, encoder: Encoder, states: Tensor, *, output: Output = "probabilities", micro_batch: int = 8
    ) -> None:
        if output not in OUTPUTS:
            raise NullspaceError(f"expected an output of {sorted(OUTPUTS)}, got {output!r}")
        if states.ndim != 3 or len(states) == 0 or tuple(encoder.patch_part(states).shape[1:]) != encoder.noise_shape:
            raise NullspaceError(
                f"expected states (n,S,D) of n >= 1 images with {encoder.noise_shape} patch tokens, as "
                f"`Encoder.states` gives them, got shape {tuple(states.shape)}"
            )
        if micro_batch < 1:
            raise NullspaceError(f"expected micro_batch >= 1, got {micro_batch}")
        self.encoder, self.states, self.output, self.micro_batch = encoder, states, output, micro_batch

    def rows(self, cotangents: int, generator: torch.Generator) -> Iterator[JacobianRows]:
        """Per micro-batch, `cotangents` rows per image; with as many as the model has outputs they are all of J.

        Otherwise: of probabilities, the rows of the likeliest classes exactly (they hold nearly all of |J|²: the row of
        class j is of the order of its probability) and RANDOM random mixtures of the others; of logits only mixtures.
        The draws do not depend on `micro_batch`. Raises NullspaceError when rows are not finite.
        """
        if cotangents < RANDOM:
            raise NullspaceError(f"expected cotangents >= {RANDOM}, got {cotangents}")
        for states in self._batches():
            noise = states.new_zeros(len(states), *self.encoder.noise_shape).requires_grad_()
            with torch.enable_grad():
                answer = self._answer(states, noise)
            chosen, exact = self._cotangents(answer.detach(), cotangents, generator)
            rows = [torch.autograd.grad(answer, noise, one, retain_graph=True)[0] for one in chosen]
            yield JacobianRows(_finite(torch.stack(rows, dim=1)), exact)

    def gauss_newton(self, block: Tensor) -> Tensor:
        """G times each of `block` (l,N,D), where G = mean over images of JᵀJ: (l,N,D).

        Costs about l forward-mode and l reverse-mode passes over all images. Attention runs in its plain form in here,
        as the fused one has no forward-mode derivative; the setting is back as it was afterwards.
        """
        total = torch.zeros_like(block)
        with sdpa_kernel(SDPBackend.MATH):
            for states in self._batches():
                noise = states.new_zeros(self.encoder.noise_shape).requires_grad_()
                pushed = self._pushed_forward(states, block.to(states))
                with torch.enable_grad():
                    answer = self._answer(states, noise)
                for column, tangent in enumerate(pushed):
                    total[column] += torch.autograd.grad(answer, noise, tangent, retain_graph=True)[0].to(total)
        return _finite(total / len(self.states))

    def _pushed_forward(self, states: Tensor, block: Tensor) -> Tensor:
        """J times each of `block`: (l,B,K)."""
        zero = states.new_zeros(self.encoder.noise_shape)

        def push(direction: Tensor) -> Tensor:
            return torch.func.jvp(lambda noise: self._answer(states, noise), (zero,), (direction,))[1]

        # So many directions at a time that they take the room of one micro-batch of images.
        together = max(1, self.micro_batch // len(states))
        with torch.no_grad():
            return torch.func.vmap(push, chunk_size=together)(block)

    def _answer(self, states: Tensor, noise: Tensor) -> Tensor:
        return OUTPUTS[self.output](self.encoder.logits(self.encoder.add(states, noise)))

    def _batches(self) -> Iterator[Tensor]:
        for states in self.states.detach().split(self.micro_batch):
            yield states.to(self.encoder.device)

    def _cotangents(self, answer: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, int]:
        """Cotangents (q,B,K) for answers (B,K), the exact ones first, and how many those are."""
        images, width = answer.shape
        if count >= width:
            every = torch.eye(width, dtype=answer.dtype, device=answer.device)
            return every.unsqueeze(1).expand(width, images, width), width
        named = count - RANDOM if self.output == "probabilities" else 0
        likeliest = answer.topk(named, dim=-1).indices.T
        exact = torch.nn.functional.one_hot(likeliest, width).to(answer)
        # Image by image, so that the draws do not depend on how images are batched; signs scatter less than normals.
        shape = (count - named, width)
        signs = [torch.randint(0, 2, shape, generator=generator) * 2 - 1 for _ in range(images)]
        mixed = torch.stack(signs, dim=1).to(answer) / math.sqrt(count - named)
        return torch.cat([exact, mixed * (1 - exact.sum(0))]), named


def _finite(values: Tensor) -> Tensor:
    if not bool(torch.isfinite(values).all()):
        raise NullspaceError(
            "the derivative of the model's answer is not finite; check weights and images, and use float32 or float64"
        )
    return values
