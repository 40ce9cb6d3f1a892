"""Verdicts and distances beside other libraries, on a small random ViT; where the extra `attacks` is installed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nullspace.metrics.draws import Draws
from nullspace.model.vit import SplitViT
from nullspace.robustness.attacks.cascade import Cascade, attacked
from nullspace.robustness.attacks.smallest import smallest_l2
from tests.nullspace.reacting import TINY, images, reacting

COUNT, EPSILON = 8, 1.2e-3
DRAWS = Draws(0, "peers", [str(number) for number in range(COUNT)])


@pytest.fixture(scope="module")
def model() -> SplitViT:
    return reacting(TINY)


class Unchecked(nn.Module):
    """The model as others call it: their pictures may leave [0,1] by rounding."""

    def __init__(self, model: SplitViT) -> None:
        super().__init__()
        self.model = model

    def forward(self, pictures: Tensor) -> Tensor:
        return self.model(pictures, check_range=False)


def test_verdicts_are_those_of_autoattack(model: SplitViT) -> None:
    peer: Any = pytest.importorskip("pyautoattack")
    pictures = images(COUNT)
    labels = model(pictures).argmax(dim=1)
    found = attacked(
        model, pictures, labels, DRAWS, norm="linf", epsilons=[EPSILON], cascade=Cascade(("pgd", "apgd_ce", "apgd_t"))
    )
    theirs = peer.AutoAttack(
        Unchecked(model), norm="Linf", eps=EPSILON, seed=0, version="custom", attacks=["apgd-ce", "apgd-t"]
    )
    answer = theirs.run_standard_evaluation(pictures, labels, batch_size=COUNT)
    robust = model(answer[0] if isinstance(answer, tuple) else answer).argmax(dim=1) == labels
    assert 0 < int(robust.sum()) < COUNT, "one of each, or the test says little"
    assert torch.equal(found.robust[0], robust)


def test_smallest_changes_are_no_longer_than_those_of_foolbox(model: SplitViT) -> None:
    peer: Any = pytest.importorskip("foolbox")
    pictures = images(COUNT)
    labels = model(pictures).argmax(dim=1)
    found = smallest_l2(model, pictures, labels, DRAWS, steps=40)
    wrapped = peer.models.PyTorchModel(Unchecked(model).eval(), bounds=(0, 1), device="cpu")
    _, answer, fooled = peer.attacks.DDNAttack(steps=50)(wrapped, pictures, labels, epsilons=None)
    theirs = torch.where(fooled, (answer - pictures).flatten(1).norm(dim=1), torch.inf).double()
    assert bool(torch.isfinite(found.distance).all())
    assert float((found.distance / theirs).median()) <= 1
