"""What noise learning minimises: a change of the outputs of one image, by name.

`logits` is the published loss. The square roots among them (norms instead of squares) keep images that change much from
deciding everything.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from nullspace.errors import NullspaceError
from nullspace.model.vit import Outputs

Objective = Callable[[Outputs, Outputs], Tensor]
"""(clean, noised) outputs of B images to their losses (B,)."""


def logits(clean: Outputs, noised: Outputs) -> Tensor:
    """|Δlogits|₂, the published loss."""
    return torch.linalg.vector_norm(noised.logits - clean.logits, dim=-1)


def squared_logits(clean: Outputs, noised: Outputs) -> Tensor:
    """|Δlogits|₂²."""
    return (noised.logits - clean.logits).square().sum(-1)


def features(clean: Outputs, noised: Outputs) -> Tensor:
    """|Δfeatures|₂, before the classifier: also for models without one."""
    return torch.linalg.vector_norm(noised.features - clean.features, dim=-1)


def squared_probabilities(clean: Outputs, noised: Outputs) -> Tensor:
    """|Δsoftmax|₂², between 0 and 2: what epsilon bounds."""
    return (noised.logits.softmax(-1) - clean.logits.softmax(-1)).square().sum(-1)


def kl_divergence(clean: Outputs, noised: Outputs) -> Tensor:
    """KL(clean ‖ noised) of the probabilities, in nats."""
    before, after = clean.logits.log_softmax(-1), noised.logits.log_softmax(-1)
    return (before.exp() * (before - after)).sum(-1)


def cross_entropy(clean: Outputs, noised: Outputs) -> Tensor:
    """-log probability, under noise, of the clean prediction, in nats."""
    return functional.cross_entropy(noised.logits, clean.logits.argmax(-1), reduction="none")


def margin(clean: Outputs, noised: Outputs) -> Tensor:
    """How far, under noise, the best other logit comes to the clean prediction's: 0 when a whole unit below."""
    prediction = clean.logits.argmax(-1, keepdim=True)
    own = noised.logits.gather(-1, prediction).squeeze(-1)
    other = noised.logits.scatter(-1, prediction, -torch.inf).amax(-1)
    return functional.relu(1 + other - own)


OBJECTIVES: dict[str, Objective] = {
    loss.__name__: loss
    for loss in (logits, squared_logits, features, squared_probabilities, kl_divergence, cross_entropy, margin)
}


def objective(name: str) -> Objective:
    """The objective called `name`; raises NullspaceError with the names there are."""
    if name not in OBJECTIVES:
        raise NullspaceError(f"expected an objective of {', '.join(OBJECTIVES)}, got {name!r}")
    return OBJECTIVES[name]
