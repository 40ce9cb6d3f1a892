"""Controls have the norm of the noise they stand beside, and none of its structure."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nullspace.errors import NullspaceError
from nullspace.metrics.controls import gaussian, permuted, uniform
from nullspace.metrics.draws import Draws
from nullspace.metrics.norms import remove_shift, token_norms

Control = Callable[..., Tensor]
CONTROLS = [permuted, gaussian, uniform]


def seeded(seed: int = 0) -> Draws:
    return Draws(seed, "control", ["a"])


def noise(tokens: int = 6, width: int = 32) -> Tensor:
    drawn = torch.randn(tokens, width, generator=torch.Generator().manual_seed(5))
    return drawn * torch.arange(1, tokens + 1)[:, None] + 3.0  # unequal tokens, and a shift part


@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.parametrize("shift_invariant", [False, True])
def test_effective_norm_is_equal(control: Control, shift_invariant: bool) -> None:
    made = control(noise(), seeded(), shift_invariant=shift_invariant)[0]
    effective = remove_shift(noise()) if shift_invariant else noise()
    assert made.shape == noise().shape and made.dtype == torch.float32
    assert float(made.norm()) == pytest.approx(float(effective.norm()), rel=1e-5)
    if shift_invariant:
        assert float(made.mean(dim=-1).abs().max()) < 1e-5


@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.parametrize("shift_invariant", [False, True])
def test_norm_of_every_token_can_be_held(control: Control, shift_invariant: bool) -> None:
    made = control(noise(), seeded(), shift_invariant=shift_invariant, hold="token")[0]
    effective = remove_shift(noise()) if shift_invariant else noise()
    torch.testing.assert_close(token_norms(made), token_norms(effective), rtol=1e-5, atol=0.0)


@pytest.mark.parametrize("control", CONTROLS)
def test_draws_decide(control: Control) -> None:
    assert torch.equal(control(noise(), seeded(1)), control(noise(), seeded(1)))
    assert not torch.equal(control(noise(), seeded(1)), control(noise(), seeded(2)))


@pytest.mark.parametrize("control", CONTROLS)
def test_structure_is_gone(control: Control) -> None:
    given_noise = noise(32, 64)
    made = control(given_noise, seeded(), shift_invariant=True)[0]
    cosine = torch.nn.functional.cosine_similarity(made.flatten(), remove_shift(given_noise).flatten(), dim=0)
    assert abs(float(cosine)) < 0.1  # 4.5 standard deviations of chance in 2048 dimensions


def test_permuted_keeps_the_elements() -> None:
    made = permuted(noise(), seeded())[0]
    torch.testing.assert_close(made.flatten().sort().values, noise().flatten().sort().values)
    assert not torch.equal(made, noise())


def test_input_is_left_alone() -> None:
    given_noise = noise()
    permuted(given_noise, seeded(), shift_invariant=True, hold="token")
    assert torch.equal(given_noise, noise())


@given(st.integers(1, 5), st.integers(2, 9), st.integers(0, 10_000), st.sampled_from(CONTROLS), st.floats(1e-12, 1e12))
@settings(max_examples=60, deadline=None)
def test_norm_is_equal_at_any_size(tokens: int, width: int, seed: int, control: Control, size: float) -> None:
    given_noise = torch.randn(tokens, width, generator=torch.Generator().manual_seed(seed)) * size
    made = control(given_noise, seeded(seed + 1))[0]
    assert float(made.double().norm()) == pytest.approx(float(given_noise.double().norm()), rel=1e-5)


@pytest.mark.parametrize("control", CONTROLS)
def test_each_id_has_a_control_of_its_own_in_any_batch(control: Control) -> None:
    made = control(noise(), Draws(0, "control", ["a", "b", "c"]), shift_invariant=True, hold="token")
    assert made.shape == (3, *noise().shape)
    assert torch.equal(
        made[[2, 0]], control(noise(), Draws(0, "control", ["c", "a"]), shift_invariant=True, hold="token")
    )
    assert not torch.allclose(made[0], made[1])


@pytest.mark.parametrize("control", CONTROLS)
def test_zero_noise_has_zero_controls(control: Control) -> None:
    assert not control(torch.zeros(3, 4), seeded()).any()


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (torch.zeros(2, 3, 4), r"float noise \(N,D\)"),
        (torch.zeros(2, 3, dtype=torch.int64), r"float noise \(N,D\)"),
        (torch.full((2, 3), torch.nan), "NaN"),
    ],
    ids=["shape", "dtype", "nan"],
)
def test_bad_noise_is_refused(bad: Tensor, message: str) -> None:
    with pytest.raises(NullspaceError, match=message):
        gaussian(bad, seeded())


def test_unknown_hold_is_refused() -> None:
    with pytest.raises(NullspaceError, match='"total" or "token"'):
        permuted(noise(), seeded(), hold="all")  # type: ignore[arg-type]
