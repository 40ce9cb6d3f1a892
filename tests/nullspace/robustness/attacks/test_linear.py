"""Attacks on a linear classifier, whose robust radius is the least margin over the dual norm of the weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from nullspace.errors import ImageRangeError, NullspaceError
from nullspace.robustness.attacks.cascade import ATTACKS, Cascade, Verdicts, attacked
from nullspace.robustness.attacks.norm import NORMS, sizes
from nullspace.robustness.attacks.smallest import smallest_l2
from tests.nullspace.robustness.attacks.linear import IDS, Linear, draws_of, linear, pictures, unlabelled

SMALL = Cascade(pgd_steps=10, steps=40, targets=4, queries=300)
# From which multiple of the radius on an attack breaks every image; Square draws its changes by chance.
REACHED = {"fgsm": 2.0, "pgd": 1.5, "apgd_ce": 1.5, "apgd_t": 1.02, "fab_t": 1.01, "square": 3.0}


def scaled(model: Linear, images: Tensor, norm: str) -> Tensor:
    """The images moved so far along the nearest class that all have the same radius: one ε then tests all of them."""
    return 0.5 + (images - 0.5) * (model.radius(images, norm).min() / model.radius(images, norm))[:, None, None, None]


def verdicts(model: Linear, images: Tensor, norm: str, factor: float, **more: Any) -> Verdicts:
    radius = float(model.radius(images, norm).min())
    given = {"norm": norm, "epsilons": [factor * radius], **more}
    return attacked(model, images, unlabelled(len(images)), draws_of(IDS[: len(images)]), **given)


@pytest.fixture(scope="module")
def model() -> Linear:
    made = linear()
    return replace(made, bias=-made.weight.sum(dim=1) / 2)  # no class is preferred in the middle of the range


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_breaks_beyond_the_radius_and_never_below(model: Linear, name: str, norm: str) -> None:
    images = scaled(model, pictures(), norm)
    radii = model.radius(images, norm)
    assert torch.allclose(radii, radii.min().expand_as(radii), rtol=1e-4)
    factor = REACHED[name] * (1.5 if (name, norm) == ("square", "l2") else 1)
    few = replace(SMALL, steps=8, queries=5)
    assert bool(verdicts(model, images, norm, 0.99, cascade=replace(few, attacks=(name,))).robust.all())
    found = verdicts(model, images, norm, factor, cascade=replace(SMALL, attacks=(name,)))
    assert not bool(found.robust.any()) and found.by == [[name] * len(images)]
    reached = sizes(found.pictures - images, "linf" if norm == "linf" else "l2")
    assert bool((reached <= factor * radii.min()).all()) and bool((found.distance >= 0.999 * radii).all())
    assert float(found.pictures.min()) >= 0 and float(found.pictures.max()) <= 1
    assert bool((model(found.pictures).argmax(1) != found.labels).all())


@pytest.mark.parametrize("norm", NORMS)
def test_fab_finds_the_distance_to_the_boundary(model: Linear, norm: str) -> None:
    images = pictures()
    radii = model.radius(images, norm)
    found = verdicts(model, images, norm, 0.5, cascade=replace(SMALL, attacks=("fab_t",), steps=20))
    assert torch.allclose(found.distance, radii, rtol=1e-2)


def test_the_smallest_change_has_the_length_of_the_radius(model: Linear) -> None:
    images = pictures()
    found = smallest_l2(model, images, unlabelled(), draws_of(), steps=60)
    radii = model.radius(images, "l2")
    assert torch.allclose(found.distance, radii, rtol=1e-2) and bool((found.distance >= 0.9999 * radii).all())
    assert found.backwards.tolist() == [60] * 6 and found.forwards.tolist() == [60 + 1 + 1 + 8] * 6


def test_images_are_broken_once_and_for_all_and_passes_are_counted(model: Linear) -> None:
    images = pictures()
    radii = model.radius(images, "linf")
    labels = unlabelled()
    labels[0] = (model(images[:1]).argmax() + 1) % 5
    epsilons = [0.5 * float(radii[1:].min()), 1.5 * float(radii[1:].min()), 1.5 * float(radii.max())]
    found = attacked(
        model, images, labels, draws_of(), norm="linf", epsilons=epsilons, cascade=Cascade(("fgsm", "pgd"))
    )
    assert not bool(found.robust[:, 0].any()) and [row[0] for row in found.by] == ["clean"] * 3
    assert found.distance[0] == 0 and found.forwards[:, 0].tolist() == [1, 1, 1]  # the look at the image itself
    assert bool((found.robust[1:] <= found.robust[:-1]).all()) and not bool(found.robust[2].any())
    safe = found.robust[0]
    # One look at the image, then a gradient and a look of FGSM, ten gradients and a look of PGD.
    assert found.forwards[0, safe].tolist() == [1 + 2 + 11] * int(safe.sum())
    assert found.backwards[0, safe].tolist() == [1 + 10] * int(safe.sum())
    assert bool((found.forwards[1:] >= found.forwards[:-1]).all())


def test_an_image_gets_the_same_in_any_batch(model: Linear) -> None:
    images, some = pictures(), Cascade(("pgd", "apgd_ce", "square"), steps=40, queries=40)
    epsilons = [1.1 * float(model.radius(images, "linf").median())]
    whole = attacked(model, images, unlabelled(), draws_of(), norm="linf", epsilons=epsilons, cascade=some)
    order = torch.tensor([4, 1, 3])
    draws = draws_of([IDS[place] for place in order])
    part = attacked(model, images[order], unlabelled(3), draws, norm="linf", epsilons=epsilons, cascade=some)
    assert torch.equal(part.robust[0], whole.robust[0, order]) and part.by[0] == [whole.by[0][at] for at in order]
    assert torch.equal(part.forwards[0], whole.forwards[0, order])
    assert torch.allclose(part.pictures, whole.pictures[order], atol=1e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_square_needs_no_gradient(model: Linear, norm: str) -> None:
    images = scaled(model, pictures(count=3), norm)

    def steps(points: Tensor) -> Tensor:
        return torch.floor(model(points) / 1e-3) * 1e-3 + 0 * points.sum()

    radius = float(model.radius(images, norm).min())
    given: dict[str, Any] = {"norm": norm, "epsilons": [4.5 * radius]}
    blind = attacked(
        steps, images, unlabelled(3), draws_of(IDS[:3]), cascade=replace(SMALL, attacks=("fgsm", "fab_t")), **given
    )
    assert bool(blind.robust.all()), "a gradient of zero leads nowhere"
    found = attacked(
        steps, images, unlabelled(3), draws_of(IDS[:3]), cascade=replace(SMALL, attacks=("square",)), **given
    )
    assert not bool(found.robust.any()) and found.backwards.tolist() == [[0, 0, 0]]


@pytest.mark.parametrize("classes", [2, 3])
def test_with_few_classes_the_margin_takes_the_place_of_the_ratio(classes: int) -> None:
    few, images = linear(classes=classes), pictures()
    epsilon = 1.05 * float(few.radius(images, "linf").max())
    found = attacked(
        few, images, unlabelled(), draws_of(), norm="linf", epsilons=[epsilon], cascade=Cascade(("apgd_t",))
    )
    assert not bool(found.robust.any())


def test_what_cannot_be_attacked_is_refused(model: Linear) -> None:
    images, draws = pictures(), draws_of()
    given: dict[str, Any] = {"norm": "linf", "epsilons": [0.1]}
    with pytest.raises(NullspaceError, match="expected the norm linf or l2, got 'l1'"):
        attacked(model, images, unlabelled(), draws, norm="l1", epsilons=[0.1])
    with pytest.raises(NullspaceError, match=r"that rise, got \[0.2, 0.1\]; sort them"):
        attacked(model, images, unlabelled(), draws, norm="linf", epsilons=[0.2, 0.1])
    with pytest.raises(NullspaceError, match="got deepfool"):
        Cascade(("deepfool",))
    with pytest.raises(NullspaceError, match="expected steps >= 1, got 0"):
        Cascade(steps=0)
    with pytest.raises(NullspaceError, match="expected steps >= 1, got 0"):
        smallest_l2(model, images, unlabelled(), draws, steps=0)
    with pytest.raises(NullspaceError, match="epsilon > 0"):
        attacked(model, images, unlabelled(), draws, norm="linf", epsilons=[-1.0])
    with pytest.raises(NullspaceError, match="float32, got torch.bfloat16"):
        attacked(lambda points: model(points).bfloat16(), images, unlabelled(), draws, **given)
    with pytest.raises(NullspaceError, match="for each of 6 images, got 5 and 6"):
        attacked(model, images, unlabelled(5), draws, **given)
    with pytest.raises(ImageRangeError):
        attacked(model, images * 255, unlabelled(), draws, **given)
