"""The shared iterations against direct solutions: systems side by side, a preconditioner, an ascent with restarts."""

from __future__ import annotations

import torch
from torch import Tensor

from nullspace.kernel.solvers import Ascent, conjugate_gradients


def product(one: Tensor, other: Tensor) -> Tensor:
    return (one * other).sum(-1, keepdim=True)


def settled(energy: Tensor, first: Tensor) -> bool:
    return bool((energy <= 1e-24 * first).all())


def positive(size: int) -> Tensor:
    drawn = torch.randn(size, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return drawn @ drawn.T + torch.diag(torch.logspace(0, 3, size, dtype=torch.float64))


def test_systems_are_solved_side_by_side_as_alone() -> None:
    matrix, right = positive(12), torch.eye(12, dtype=torch.float64)[:3] * torch.tensor([[1.0], [1e-3], [0.0]])
    found, used = conjugate_gradients(
        lambda x: x @ matrix, right.clone(), product=product, enough=settled, iterations=100
    )
    torch.testing.assert_close(found, torch.linalg.solve(matrix, right.T).T, rtol=1e-9, atol=1e-12)
    assert used < 100 and not bool(found[2].any()), "the system of zeros stays at zero"


def test_a_preconditioner_saves_iterations() -> None:
    matrix = positive(12)
    right, diagonal = torch.ones(1, 12, dtype=torch.float64), matrix.diagonal()
    options = {"product": product, "enough": settled, "iterations": 100}
    plain, slow = conjugate_gradients(lambda x: x @ matrix, right, **options)
    helped, fast = conjugate_gradients(lambda x: x @ matrix, right, precondition=lambda r: r / diagonal, **options)
    torch.testing.assert_close(plain, helped, rtol=1e-8, atol=1e-12)
    assert fast <= slow


def test_it_ends_where_nothing_can_be_moved() -> None:
    found, used = conjugate_gradients(torch.zeros_like, torch.ones(2, 5), product=product, enough=settled, iterations=7)
    assert used == 7 and not bool(found.any())


def test_an_ascent_reaches_the_top_of_every_hill() -> None:
    curvature = torch.tensor([[1.0, 0.01], [0.5, 0.02]], dtype=torch.float64)
    top = torch.tensor([[3.0, -2.0], [1.0, 4.0]], dtype=torch.float64)
    whole, second = Ascent.start(torch.zeros_like(top)), Ascent.start(torch.zeros_like(top)).subset(torch.tensor([1]))
    for _ in range(400):
        whole = whole.climbed(curvature * (top - whole.ahead), 1.0)
        second = second.climbed(curvature[1:] * (top[1:] - second.ahead), 1.0)
    torch.testing.assert_close(whole.multiplier, top, rtol=1e-6, atol=1e-6)
    assert torch.equal(second.multiplier[0], whole.multiplier[1])
