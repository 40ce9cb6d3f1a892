"""What a metamer's search descends on: the distance of the matched states, better conditioned where they are logits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nullspace.fooling.depth import squared_distance
from nullspace.model.vit import SplitViT

CLASS_WEIGHT = 30.0  # of what the margin of the class lacks, squared, beside the squared distance
ENOUGH_MARGIN = 2.0  # logits: the class is safe, and nothing more is asked than closeness
_LEAST_SINGULAR = 1e-2  # of the largest: directions below are hardly in the logits at all
_TINY = 1e-30

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Closeness:
    """How near states (B,K) are to the `wanted` ones (B,K), relative to how far those of the looks were.

    `distance` is what is reported, plain and squared. `loss` has two changes where states are logits: the residual is
    multiplied by `metric` (K,K), and the image's class has to win by its own margin, at most by ENOUGH_MARGIN.
    """

    wanted: Tensor
    apart: Tensor
    apart_in_metric: Tensor
    metric: Tensor | None
    classes: bool

    @classmethod
    def between(cls, looks: Tensor, wanted: Tensor, *, model: SplitViT, at: str) -> Closeness:
        """From states (B,K) of the looks to the wanted ones at depth `at`."""
        logits = at == "logits"
        metric = inverse_of_classifier(model, wanted) if logits else None
        return cls(
            wanted=wanted,
            apart=squared_distance(looks, wanted).clamp_min(_TINY),
            apart_in_metric=squared_distance(_times(looks, metric), _times(wanted, metric)).clamp_min(_TINY),
            metric=metric,
            classes=logits and model.num_classes > 1,
        )

    def distance(self, states: Tensor, index: Tensor) -> Tensor:
        """Squared distance of states (b,K) of the pictures `index` (b,), relative to look and image: (b,)."""
        return squared_distance(states, self.wanted[index]) / self.apart[index]

    def loss(self, states: Tensor, index: Tensor) -> Tensor:
        """What is made small, for states (b,K) of the pictures `index`: (b,)."""
        wanted = self.wanted[index]
        loss = squared_distance(_times(states, self.metric), _times(wanted, self.metric)) / self.apart_in_metric[index]
        if self.classes:
            kind = wanted.argmax(dim=1, keepdim=True)
            lacking = _margin(wanted, kind).clamp_max(ENOUGH_MARGIN) - _margin(states, kind)
            loss = loss + CLASS_WEIGHT * lacking.clamp_min(0).square() / self.apart[index]
        return loss

    def of_class(self, states: Tensor, index: Tensor) -> Tensor:
        """Whether the class is the wanted one (b,); always so where classes are not matched."""
        same = states.argmax(dim=1) == self.wanted[index].argmax(dim=1)
        return same if self.classes else torch.ones_like(same)


def inverse_of_classifier(model: SplitViT, like: Tensor) -> Tensor | None:
    """(WWᵀ)^-½ (K,K) for a linear classifier W (K,F), in the type of `like`; None without one.

    Logits are W·features, and descending on their distance is slow along the small singular values of W. Multiplied by
    this, a residual has the norm of the features behind it, as far as logits distinguish them; at 40 steps half as much
    of the distance of logits is left.
    """
    classifier = _classifier(model)
    if classifier is None or classifier.weight.shape[0] != like.shape[1]:
        return None
    left, sizes, _ = torch.linalg.svd(classifier.weight.detach().double().cpu(), full_matrices=False)
    if not float(sizes[0]) > 0:
        return None
    sizes = (sizes / sizes[0]).clamp_min(_LEAST_SINGULAR)
    return ((left / sizes) @ left.T).to(like)


def _classifier(model: SplitViT) -> nn.Linear | None:
    wrapped: Any = model.model
    found = wrapped.get_classifier() if hasattr(wrapped, "get_classifier") else None
    return found if isinstance(found, nn.Linear) else None


def _times(states: Tensor, metric: Tensor | None) -> Tensor:
    return states if metric is None else states @ metric


def _margin(logits: Tensor, kind: Tensor) -> Tensor:
    """By how much the class `kind` (b,1) wins against the best other one: (b,)."""
    others = logits.float().scatter(1, kind, -torch.inf).amax(dim=1)
    return logits.float().gather(1, kind)[:, 0] - others
