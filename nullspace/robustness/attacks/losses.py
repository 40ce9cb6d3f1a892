"""What an attack makes large: cross-entropy, the margin of another class, the difference of logits ratio.

Every loss takes logits (n,K) and labels (n,) and gives (n,).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]
FEWEST_CLASSES = 4
"""For the targeted difference of logits ratio; with fewer the margin is used in its place."""
_TINY = 1e-12


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """-log of the probability of the label."""
    return functional.cross_entropy(logits, labels, reduction="none")


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Best other logit minus that of the label: positive exactly where the prediction is another class."""
    own = logits.gather(1, labels[:, None])[:, 0]
    return logits.scatter(1, labels[:, None], -torch.inf).amax(dim=1) - own


def margin_of(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """Logit of `targets` (n,) minus that of the label."""
    return (logits.gather(1, targets[:, None]) - logits.gather(1, labels[:, None]))[:, 0]


def ratio_to(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """The targeted difference of logits ratio (Croce & Hein 2020, eq. 8); does not change when logits are scaled.

    (z_t - z_y) / (z_1 - (z_3 + z_4)/2) with logits z sorted downwards. Needs FEWEST_CLASSES.
    """
    ordered = logits.topk(FEWEST_CLASSES, dim=1).values
    scale = ordered[:, 0] - (ordered[:, 2] + ordered[:, 3]) / 2
    return margin_of(logits, labels, targets) / (scale + _TINY)


def towards(targets: Tensor, classes: int) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """The targeted loss of images `index` (m,) among those of `targets` (n,): called with logits, labels and index."""
    loss = ratio_to if classes >= FEWEST_CLASSES else margin_of
    return lambda logits, labels, index: loss(logits, labels, targets[index])


def untargeted(loss: Loss) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """A loss as attacks call it: the same for every image."""
    return lambda logits, labels, index: loss(logits, labels)


def best_others(logits: Tensor, labels: Tensor, count: int) -> Tensor:
    """The `count` classes (n,count) with the largest logits beside the label's; at most K - 1 of them."""
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return others.topk(min(count, logits.shape[1] - 1), dim=1).indices
