"""The sensitivity spectrum against explicit Jacobians in float64."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nullspace.errors import NullspaceError
from nullspace.model.encoder import Encoder
from nullspace.model.vit import SplitViT
from nullspace.subspace.jacobian import OUTPUTS, Linearised
from nullspace.subspace.sensitivity import captured_elsewhere, top_of_rows
from nullspace.subspace.spectrum import SensitivitySpectrum
from nullspace.subspace.starts import least_sensitive_start
from tests.nullspace.subspace.sensitive import spectrum_of, states_of, tiny

INJECTIONS = ["patch_tokens", "block:0", "block:1"]


def explicit(encoder: Encoder, states: Tensor, output: str = "probabilities") -> Tensor:
    """G (N·D,N·D) from the Jacobian that autograd writes out, one row per image and output."""

    def answer(noise: Tensor) -> Tensor:
        return OUTPUTS[output](encoder.logits(encoder.add(states, noise)))

    zero = torch.zeros(encoder.noise_shape, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(answer, zero)
    assert isinstance(jacobian, Tensor)
    rows = jacobian.flatten(2).flatten(0, 1)
    return rows.T @ rows / len(states)


@pytest.mark.parametrize("output", ["probabilities", "logits"])
@pytest.mark.parametrize("injection", INJECTIONS)
@pytest.mark.parametrize("iterations", [0, 1])
def test_eigenpairs_are_those_of_the_explicit_operator(
    model: SplitViT, injection: str, output: str, iterations: int
) -> None:
    encoder = Encoder(model, injection)
    states = states_of(encoder)
    reference = explicit(encoder, states, output)
    values, vectors = torch.linalg.eigh(reference)
    found = spectrum_of(encoder, states, output=output, iterations=iterations)
    torch.testing.assert_close(found.eigenvalues, values.flip(0)[:6], rtol=1e-9, atol=0)
    top = found.eigenvectors.flatten(1)
    torch.testing.assert_close(top.T @ top, vectors[:, -6:] @ vectors[:, -6:].T, rtol=0, atol=1e-8)
    torch.testing.assert_close(top @ top.T, torch.eye(6, dtype=torch.float64), rtol=0, atol=1e-12)
    assert found.trace == pytest.approx(float(reference.trace()), rel=1e-12) and found.trace_stderr == 0
    if iterations:
        assert float(found.residuals.max()) < 1e-12 * float(values[-1])
    else:
        assert bool(found.residuals.isnan().all())


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_effective_dimension_is_that_of_the_explicit_operator(model: SplitViT, share: float) -> None:
    encoder = Encoder(model)
    states = states_of(encoder)
    values = torch.linalg.eigvalsh(explicit(encoder, states)).flip(0)
    wanted = int((values.cumsum(0) < share * values.sum()).sum()) + 1
    assert spectrum_of(encoder, states, k=16).effective_dimension(share).dimension == wanted
    for k in range(1, wanted):
        bound = spectrum_of(encoder, states, k=k).effective_dimension(share)
        assert bound.lower_bound and k < bound.dimension <= wanted
    exact = spectrum_of(encoder, states, k=wanted).effective_dimension(share)
    assert not exact.lower_bound and exact.dimension == wanted
    with pytest.raises(NullspaceError, match="between 0 and 1.*got 99"):
        spectrum_of(encoder, states).effective_dimension(99)


def test_operator_is_symmetric_positive_and_linear(model: SplitViT) -> None:
    encoder = Encoder(model)
    linear = Linearised(encoder, states_of(encoder), micro_batch=3)
    block = torch.randn(4, *encoder.noise_shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    pushed = linear.gauss_newton(block)
    small = block.flatten(1) @ pushed.flatten(1).T
    torch.testing.assert_close(small, small.T, rtol=1e-9, atol=1e-14)
    assert float(torch.linalg.eigvalsh(small).min()) > 0
    torch.testing.assert_close(linear.gauss_newton(-3 * block), -3 * pushed, rtol=1e-9, atol=1e-14)
    torch.testing.assert_close(pushed.sum(-1), torch.zeros_like(pushed.sum(-1)), rtol=0, atol=1e-10)


def test_scaled_logits_scale_the_spectrum(model: SplitViT) -> None:
    encoder = Encoder(model)
    states = states_of(encoder)
    before = spectrum_of(encoder, states, output="logits")
    scaled = tiny()
    with torch.no_grad():
        scaled.model.get_submodule("head").get_parameter("weight").mul_(3)
    after = spectrum_of(Encoder(scaled), states, output="logits")
    torch.testing.assert_close(after.eigenvalues, 9 * before.eigenvalues, rtol=1e-9, atol=0)
    assert after.captured == pytest.approx(before.captured, rel=1e-9)


def test_sums_over_tokens_and_channels_are_those_of_the_explicit_operator(model: SplitViT) -> None:
    encoder = Encoder(model)
    states = states_of(encoder)
    count, dim = encoder.noise_shape
    blocks = explicit(encoder, states).reshape(count, dim, count, dim)
    found = spectrum_of(encoder, states)
    torch.testing.assert_close(found.channels, torch.einsum("tdte->de", blocks), rtol=1e-9, atol=1e-14)
    torch.testing.assert_close(found.tokens, torch.einsum("tdsd->ts", blocks), rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("output", ["probabilities", "logits"])
def test_sampled_trace_is_unbiased_and_its_error_is_right(model: SplitViT, output: str) -> None:
    encoder = Encoder(model)
    states = states_of(encoder, n=3)
    truth = float(explicit(encoder, states, output).trace())
    found = [spectrum_of(encoder, states, output=output, cotangents=3, k=1, seed=seed) for seed in range(60)]
    traces = torch.tensor([one.trace for one in found], dtype=torch.float64)
    scatter = float(traces.std())
    assert abs(float(traces.mean()) - truth) < 4 * scatter / 60**0.5
    claimed = float(torch.tensor([one.trace_stderr**2 for one in found]).mean()) ** 0.5
    assert claimed == pytest.approx(scatter, rel=0.35)
    assert scatter < 0.6 * truth


def test_iterations_converge_to_the_explicit_operator(model: SplitViT) -> None:
    encoder = Encoder(model)
    states = states_of(encoder)
    wanted = torch.linalg.eigvalsh(explicit(encoder, states)).flip(0)[:4]
    errors, residuals = [], []
    for iterations in (1, 2, 4):
        found = spectrum_of(encoder, states, k=4, cotangents=3, iterations=iterations)
        assert bool((found.eigenvalues <= wanted * (1 + 1e-9)).all())  # Rayleigh-Ritz bounds from below
        # Every Ritz value has an eigenvalue within its residual.
        every = torch.linalg.eigvalsh(explicit(encoder, states))
        gap = (found.eigenvalues[:, None] - every[None]).abs().amin(1)
        assert bool((gap <= found.residuals + 1e-12).all())
        errors.append(float((found.eigenvalues / wanted - 1).abs().max()))
        residuals.append(float(found.residuals.max()))
    assert errors[2] < errors[0] and residuals[2] < residuals[1] < residuals[0]
    assert errors[2] < 1e-3


def test_result_is_seeded_and_does_not_depend_on_micro_batches(model: SplitViT) -> None:
    encoder = Encoder(model)
    states = states_of(encoder, n=5)
    before = torch.get_rng_state()
    first, same, pieces, other = (
        spectrum_of(encoder, states, cotangents=3, k=4, iterations=1, micro_batch=batch, seed=seed)
        for batch, seed in ((5, 1), (5, 1), (2, 1), (5, 2))
    )
    assert torch.equal(first.eigenvectors, same.eigenvectors) and first.trace == same.trace
    torch.testing.assert_close(pieces.eigenvalues, first.eigenvalues, rtol=1e-9, atol=0)
    assert pieces.trace == pytest.approx(first.trace, rel=1e-12)
    assert other.trace != first.trace
    assert torch.equal(torch.get_rng_state(), before)


def test_many_rows_are_compressed_without_loss_of_the_top(model: SplitViT, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = Encoder(model)
    states = states_of(encoder, n=12)
    whole = spectrum_of(encoder, states, k=4, micro_batch=2)
    monkeypatch.setattr("nullspace.subspace.sensitivity.KEPT_ROWS", 1)
    small = spectrum_of(encoder, states, k=4, oversampling=0, micro_batch=2)
    torch.testing.assert_close(small.eigenvalues, whole.eigenvalues, rtol=1e-2, atol=0)
    assert bool((small.eigenvalues <= whole.eigenvalues * (1 + 1e-12)).all())
    assert small.trace == pytest.approx(whole.trace, rel=1e-12)


@given(st.integers(1, 6), st.integers(2, 30), st.integers(1, 8), st.integers(0, 100))
@settings(max_examples=40, deadline=None)
def test_top_of_rows_is_the_singular_value_decomposition(rank: int, rows: int, k: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(rows, rank, generator=generator).double() @ torch.randn(rank, 20, generator=generator).double()
    values, vectors = top_of_rows(matrix, k)
    singular = torch.linalg.svdvals(matrix)[: min(k, rank, rows)]
    torch.testing.assert_close(values, singular.square()[: len(values)], rtol=1e-8, atol=0)
    assert len(values) == len(singular)
    torch.testing.assert_close(vectors @ vectors.T, torch.eye(len(values), dtype=torch.float64), rtol=0, atol=1e-10)


BUILDS = {
    "deit_tiny_distilled_patch16_224": {},
    "vit_tiny_patch16_224": {"class_token": False, "global_pool": "avg"},
    "vit_small_patch14_reg4_dinov2": {"patch_size": 8},
    "beit_base_patch16_224": {},
    "eva02_tiny_patch14_224": {},
}


@pytest.mark.parametrize("name", BUILDS, ids=str)
def test_other_builds_match_their_explicit_operator(name: str) -> None:
    encoder = Encoder(tiny(name, **BUILDS[name]))
    states = states_of(encoder, n=1)
    reference = explicit(encoder, states)
    found = spectrum_of(encoder, states, k=3, shift_invariant=False, iterations=1)
    torch.testing.assert_close(found.eigenvalues, torch.linalg.eigvalsh(reference).flip(0)[:3], rtol=1e-8, atol=0)
    assert float(found.residuals.max()) < 1e-10 * float(found.eigenvalues[0])


def test_nothing_is_left_behind(model: SplitViT) -> None:
    def settings_now() -> list[bool]:
        cuda = torch.backends.cuda
        return [cuda.flash_sdp_enabled(), cuda.mem_efficient_sdp_enabled(), cuda.math_sdp_enabled()]

    before = settings_now()
    encoder = Encoder(model, "block:1")
    spectrum_of(encoder, states_of(encoder), iterations=1)
    assert settings_now() == before
    assert torch.is_grad_enabled()
    for module in model.modules():
        assert not module._forward_hooks and not module._forward_pre_hooks and not module._backward_hooks
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in model.parameters())


def test_share_elsewhere(model: SplitViT) -> None:
    encoder = Encoder(model)
    states, others = states_of(encoder), states_of(encoder, n=6, seed=9)
    spectrum = spectrum_of(encoder, states, k=12)
    same = captured_elsewhere(spectrum, encoder, states, cotangents=5)
    assert same.share == pytest.approx(spectrum.captured, rel=1e-9) and (same.k, same.n) == (12, 4)
    reference = explicit(encoder, others)
    top = spectrum.eigenvectors[:5].flatten(1)
    found = captured_elsewhere(spectrum, encoder, others, k=5, cotangents=5)
    assert found.share == pytest.approx(float((top @ reference @ top.T).trace() / reference.trace()), rel=1e-9)
    assert found.interval is not None and found.interval[0] <= found.share <= found.interval[1]
    assert captured_elsewhere(spectrum, encoder, others[:1], cotangents=5).interval is None
    with pytest.raises(NullspaceError, match="expected an encoder at 'patch_tokens'"):
        captured_elsewhere(spectrum, Encoder(model, "block:1"), others)


def test_errors(model: SplitViT, spectrum: SensitivitySpectrum) -> None:
    encoder = Encoder(model)
    states = states_of(encoder)
    generator = torch.Generator()
    with pytest.raises(NullspaceError, match=r"1 <= k <= N·D = 384.*got 0"):
        spectrum_of(encoder, states, k=0)
    with pytest.raises(NullspaceError, match="cotangents >= 2, got 1"):
        spectrum_of(encoder, states, cotangents=1)
    with pytest.raises(NullspaceError, match="at least k = 30 sampled rows, got 4 images"):
        spectrum_of(encoder, states, cotangents=3, k=30)
    with pytest.raises(NullspaceError, match="output of"):
        spectrum_of(encoder, states, output="features")
    with pytest.raises(NullspaceError, match="expected states"):
        spectrum_of(encoder, states[:0])
    with pytest.raises(NullspaceError, match="micro_batch >= 1"):
        spectrum_of(encoder, states, micro_batch=0)
    with pytest.raises(NullspaceError, match="derivative of the model's answer is not finite"):
        spectrum_of(encoder, states * torch.nan)
    with pytest.raises(NullspaceError, match=r"expected noise \(...,16,24\)"):
        spectrum.project(torch.zeros(24, 16))
    with pytest.raises(NullspaceError, match="rank <= 23 channel directions, got 25"):
        least_sensitive_start(spectrum, 0.5, 1.0, generator, rank=25)
    with pytest.raises(NullspaceError, match='how "channels"'):
        least_sensitive_start(spectrum, 0.5, 1.0, generator, how="other")  # type: ignore[arg-type]
    with pytest.raises(NullspaceError, match="positive finite norm for every token, got 0.0"):
        spectrum.sample(0.0, 1.0, generator)
    with pytest.raises(NullspaceError, match="eigenvectors"):
        replace(spectrum, eigenvalues=spectrum.eigenvalues[:3])


def test_a_model_that_feels_nothing_is_an_error() -> None:
    deaf = tiny()
    with torch.no_grad():
        deaf.model.get_submodule("head").get_parameter("weight").zero_()
    encoder = Encoder(deaf)
    with pytest.raises(NullspaceError, match="derivative is 0"):
        spectrum_of(encoder, states_of(encoder))
