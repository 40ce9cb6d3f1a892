"""Draws are decided by seed, condition and id, and have the distribution they are named after."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.special import ndtri
from torch import Tensor

from nullspace.errors import NullspaceError
from nullspace.metrics.draws import Draws
from nullspace.metrics.normal_table import normal_of

KINDS: dict[str, Callable[[Draws], Tensor]] = {
    "uniform": lambda draws: draws.uniform(5, 9),
    "normal": lambda draws: draws.normal(5, 9),
    "signs": lambda draws: draws.signs(77),
    "integers": lambda draws: draws.integers(1 << 31),
    "permutation": lambda draws: draws.permutation(50),
}


def some(count: int = 20, seed: int = 0, condition: str = "test") -> Draws:
    return Draws(seed, condition, [str(number) for number in range(count)])


@pytest.mark.parametrize("kind", KINDS)
def test_seed_condition_and_id_decide_and_nothing_else(kind: str) -> None:
    make = KINDS[kind]
    found = make(some())
    assert torch.equal(make(some()), found) and torch.equal(make(some()[3:5]), found[3:5])
    assert torch.equal(make(some()[torch.tensor([4, 1])]), found[[4, 1]])
    assert torch.equal(make(Draws(0, "test", ["7", "2"])), found[[7, 2]]), "in any batch and order"
    for other in (some(seed=1), some(condition="other"), some().stream(1)):
        assert not torch.equal(make(other), found)
    assert len(torch.unique(found, dim=0)) == 20


def test_numbers_stay_what_they_are_as_stored_results_rest_on_them() -> None:
    draws = Draws(3, "kernel", ["a/b.png"])
    assert draws.integers(1 << 31).tolist() == [1800190537]
    assert draws.permutation(6).tolist() == [[0, 5, 4, 1, 3, 2]]
    assert draws.bytes(4) == [b"\x05a\x15."]
    assert [each.hex() for each in draws.normal(3)[0].tolist()] == [
        "0x1.3d1fce0000000p+1",
        "0x1.ea1d140000000p-1",
        "0x1.2bfa700000000p+0",
    ]


def test_kinds_and_lengths_share_no_surprise() -> None:
    draws = some()
    assert torch.equal(draws.normal(100)[:, :7], draws.normal(7))
    both = torch.stack([draws.normal(4096).flatten(), draws.uniform(4096).flatten(), draws.signs(4096).flatten()])
    assert float((torch.corrcoef(both) - torch.eye(3)).abs().max()) < 0.02


@pytest.mark.parametrize(("kind", "law"), [("uniform", "uniform"), ("normal", "norm")])
def test_the_distribution_is_the_one_named(kind: str, law: str) -> None:
    drawn = getattr(some(), kind)(20_000).double().numpy()
    assert stats.kstest(drawn.ravel(), law).pvalue > 0.01
    assert min(stats.kstest(row, law).pvalue for row in drawn) > 0.01 / len(drawn)


def test_moments_of_normal_numbers() -> None:
    drawn = some(50).normal(20_000).double()
    moments = [float((drawn**power).mean()) for power in (1, 2, 3, 4)]
    assert moments == pytest.approx([0, 1, 0, 3], abs=0.03)
    neighbours = torch.corrcoef(torch.stack([drawn[:, :-1].flatten(), drawn[:, 1:].flatten()]))[0, 1]
    assert abs(float(neighbours)) < 0.005


def test_normal_numbers_are_the_inverse_of_their_distribution_in_the_tails_too() -> None:
    bits = torch.cat([torch.arange(-1000, 1000), torch.arange(-(2**31), 2**31, 99_991)]).int()
    number = (bits | 1).double()
    expected = -number.sign() * torch.from_numpy(ndtri((number.abs() * 2.0**-32).numpy()))
    assert float((normal_of(bits).double() - expected).abs().max()) < 1e-6


@given(st.integers(1, 300), st.integers(0, 99))
def test_a_permutation_has_every_number_once(count: int, seed: int) -> None:
    assert Draws(seed, "order", ["a"]).permutation(count)[0].sort().values.tolist() == list(range(count))


def test_every_order_is_as_likely() -> None:
    drawn = some(6000).permutation(3)
    _, counts = torch.unique(drawn, dim=0, return_counts=True)
    assert len(counts) == 6 and stats.chisquare(counts.numpy()).pvalue > 0.01


def test_integers_are_below_their_limit_and_as_likely() -> None:
    counts = np.bincount(some(9000).integers(9).numpy())
    assert len(counts) == 9 and stats.chisquare(counts).pvalue > 0.01


def test_shuffled_values_are_the_same_values() -> None:
    values = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    mixed = some(2).shuffled(values)
    assert mixed.shape == values.shape and not torch.equal(mixed, values)
    assert torch.equal(mixed.flatten(1).sort().values, values.flatten(1).sort().values)


def test_no_images_have_no_numbers() -> None:
    none = Draws(0, "test", [])
    assert none.normal(2, 3).shape == (0, 2, 3) and none.permutation(4).shape == (0, 4) and none.bytes(2) == []


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda draws: draws.integers(0), "integers below 1 to 2.31, got 0"),
        (lambda draws: draws.permutation(0), "1 to 2.24 numbers, got 0"),
        (lambda draws: draws.shuffled(torch.zeros(2, 3)), "each of 20 ids, got 2"),
    ],
)
def test_what_cannot_be_drawn_is_refused(ask: Callable[[Draws], Tensor], message: str) -> None:
    with pytest.raises(NullspaceError, match=message):
        ask(some())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("kind", KINDS)
def test_a_gpu_draws_the_same_numbers(kind: str) -> None:
    make = KINDS[kind]
    assert torch.equal(make(some().to("cuda")).cpu(), make(some()))
