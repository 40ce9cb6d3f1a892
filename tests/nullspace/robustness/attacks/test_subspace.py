"""Attacks on small ViTs, confined: in the kernel none can succeed, in the row space they lose nothing but room."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from nullspace.errors import NullspaceError
from nullspace.kernel.patch_kernel import PatchKernel, patch_kernel
from nullspace.metrics.draws import Draws
from nullspace.model.vit import SplitViT
from nullspace.robustness.attacks.cascade import Cascade, attacked
from nullspace.robustness.attacks.case import Threat
from nullspace.robustness.attacks.norm import NORMS, NormName, sizes
from nullspace.robustness.attacks.smallest import smallest_l2
from nullspace.robustness.attacks.subspace import Subspace
from nullspace.robustness.attacks.victim import Victim
from tests.nullspace.reacting import TINY, reacting

IDS = ["a", "b", "c", "d"]
DRAWS, UNKNOWN = Draws(0, "attacks", IDS), torch.full((4,), -1)
EPSILON: dict[str, float] = {"linf": 0.3, "l2": 12.0}
STEPS = Cascade(("pgd", "apgd_ce"), pgd_steps=6, steps=10)


@pytest.fixture(scope="module")
def model() -> SplitViT:
    return reacting(TINY)


@pytest.fixture(scope="module")
def kernel(model: SplitViT) -> PatchKernel:
    return patch_kernel(model)


@pytest.fixture(scope="module")
def images(model: SplitViT) -> torch.Tensor:
    return torch.rand(4, 3, *model.preprocessing.input_size, generator=torch.Generator().manual_seed(5)).round(
        decimals=1
    )


@pytest.mark.parametrize("norm", NORMS)
def test_in_the_kernel_nothing_changes(
    model: SplitViT, kernel: PatchKernel, images: torch.Tensor, norm: NormName
) -> None:
    inside = Subspace.kernel(model, kernel)
    more: dict[str, Any] = {"norm": norm, "epsilons": [EPSILON[norm]], "cascade": STEPS}
    found = attacked(model, images, UNKNOWN, DRAWS, inside=inside, **more)
    assert bool(found.robust.all())
    wanted = images + EPSILON[norm] * torch.randn(images.shape, generator=torch.Generator().manual_seed(1))
    pictures = Threat(norm, EPSILON[norm], inside).nearest(images, wanted)
    size = sizes(pictures - images, norm)
    assert bool((size > 0.2 * EPSILON[norm]).all()) and bool((size <= EPSILON[norm]).all())
    assert float(pictures.min()) >= 0 and float(pictures.max()) <= 1
    with torch.no_grad():
        assert float((model(pictures) - model(images)).abs().max()) < 1e-3 * float(model(images).abs().max())


def test_in_the_row_space_an_attack_does_as_well(model: SplitViT, kernel: PatchKernel, images: torch.Tensor) -> None:
    inside = Subspace.row_space(model, kernel)
    lengths = []
    for subspace in (None, inside):
        found = smallest_l2(model, images, UNKNOWN, DRAWS, steps=25, inside=subspace)
        lengths.append(found.distance)
        if subspace is not None:
            patches = model.patchify(found.pictures - images)
            left = subspace.project(found.pictures - images) - (found.pictures - images)
            assert float(model.patchify(left).norm(dim=2).max()) < 1e-3 * float(patches.norm(dim=2).max())
    free, confined = lengths
    assert bool(torch.isfinite(free).all()) and bool((confined < 1.2 * free).all())


def test_gradients_lie_in_the_row_space(model: SplitViT, kernel: PatchKernel, images: torch.Tensor) -> None:
    victim = Victim(model, 4)
    _, _, slope = victim.slope(images, UNKNOWN + 1, torch.arange(4), lambda logits, *_: logits.square().sum(dim=1))
    assert torch.allclose(Subspace.row_space(model, kernel).project(slope), slope, atol=1e-5 * float(slope.abs().max()))


def test_what_has_no_subspace_is_refused(model: SplitViT, kernel: PatchKernel, images: torch.Tensor) -> None:
    with pytest.raises(NullspaceError, match="square cannot be confined to a subspace; leave fgsm, pgd"):
        attacked(model, images, UNKNOWN, DRAWS, norm="linf", epsilons=[0.1], inside=Subspace.kernel(model, kernel))
