"""Learning from start to end: early stop, growth to an epsilon, the published algorithms, objectives by formula."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional

from nullspace.errors import NullspaceError
from nullspace.metrics.encoder_data import EncoderData
from nullspace.metrics.norms import token_norms
from nullspace.metrics.radius import measure
from nullspace.model.encoder import Encoder
from nullspace.model.vit import Outputs
from nullspace.noise.baselines import PublishedSettings, learn_published
from nullspace.noise.channel_start import channel_start, least_sensitive
from nullspace.noise.form import NoiseForm
from nullspace.noise.learn import learn_noise
from nullspace.noise.learner import NoiseSettings
from nullspace.noise.objectives import OBJECTIVES, objective
from tests.nullspace.reacting import data_of, images


@pytest.fixture(scope="module")
def learn(encoder: Encoder) -> EncoderData:
    return data_of(encoder, 64)


@pytest.fixture(scope="module")
def held_out(encoder: Encoder) -> EncoderData:
    return data_of(encoder, 48, seed=9, batch_size=10)


def test_the_best_step_on_held_out_images_is_kept(learn: EncoderData, held_out: EncoderData) -> None:
    settings = NoiseSettings(relative_norm=0.3, steps=40, batch_size=16)
    seen: list[int] = []
    found = learn_noise(
        learn, settings,
        held_out=held_out, check_every=10,
        progress=lambda learner, _: seen.append(learner.steps_done),
    )  # fmt: skip
    assert seen == list(range(1, 41)) and len(found.losses) == 40
    assert [step for step, _ in found.checks] == [10, 20, 30, 40]
    least = min(found.checks, key=lambda check: check[1].probability_change)
    assert found.best_step == least[0] and not found.stopped_early
    again = measure(held_out, found.noise)
    assert again.probability_change == pytest.approx(least[1].probability_change, rel=1e-4)
    assert found.relative_norm == pytest.approx(0.3, rel=1e-4)
    assert found.image_steps == 40 * 16 + 3 * 64, "the start is counted"


def test_what_is_learned_becomes_an_artifact(encoder: Encoder, learn: EncoderData) -> None:
    found = learn_noise(learn, NoiseSettings(steps=8))
    noise = found.artifact(learn)
    assert noise.relative_norm == pytest.approx(0.5, rel=1e-4) and noise.spread == pytest.approx(1.0)
    assert noise.settings["steps"] == 8 and noise.data_fingerprint == learn.fingerprint()
    with torch.no_grad(), noise.apply(encoder.model):
        torch.testing.assert_close(encoder.model(images(3)), encoder.logits(learn.states[:3] + found.noise))
    own = NoiseSettings(steps=2, scope="image", start="random", ranks=None)
    each = learn_noise(learn, own)
    with pytest.raises(NullspaceError, match="no held_out images"):
        learn_noise(learn, own, held_out=learn)
    with pytest.raises(NullspaceError, match="one per image"):
        each.artifact(learn)


def test_it_stops_when_held_out_images_gain_no_more(learn: EncoderData, held_out: EncoderData) -> None:
    settings = NoiseSettings(relative_norm=1.0, ranks=None, steps=200, batch_size=16, learning_rate=0.3)
    found = learn_noise(learn, settings, held_out=held_out, check_every=2, patience=2)
    assert found.stopped_early and len(found.losses) < 200
    assert found.best_step == len(found.losses) - 4
    with pytest.raises(NullspaceError, match="patience >= 1 with held_out images"):
        learn_noise(learn, settings, patience=2)


def test_a_start_is_in_the_directions_that_are_felt_least() -> None:
    """A loss that is linear in known directions: the least sensitive ones are found, without the shift."""
    generator = torch.Generator().manual_seed(0)
    sizes = torch.tensor([9.0, 7.0, 5.0, 0.01, 3.0, 0.02])
    turn = torch.linalg.qr(torch.randn(6, 6, generator=generator, dtype=torch.float64)).Q

    def gradients(index: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        drawn = torch.randn(noise.shape, generator=generator, dtype=torch.float64)
        return ((drawn * sizes) @ turn.T).float()

    form = NoiseForm(2.0, 2, shift_invariant=False)
    found = channel_start(gradients, lambda: torch.arange(50), (40, 6), form, generator, directions=2, images=200)
    assert found.image_steps == 600 and torch.equal(found.sensitivities, found.sensitivities.sort().values)
    torch.testing.assert_close(token_norms(found.noise), torch.full((40,), 2.0, dtype=torch.float64))
    plane = turn[:, [3, 5]]
    inside = (found.noise.double() @ plane).norm() / found.noise.double().norm()
    assert float(inside) > 0.9999
    with pytest.raises(NullspaceError, match="1 <= directions <= D = 6"):
        channel_start(gradients, lambda: torch.arange(5), (40, 6), form, generator, directions=7)


def test_the_shift_is_no_direction_to_start_in() -> None:
    rows = torch.randn(50, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    centred = rows - rows.mean(1, keepdim=True)
    values, vectors = least_sensitive(centred.T @ centred, shift_invariant=True)
    assert (
        values.shape == (4,) and float(vectors.sum(0).abs().max()) < 1e-12 and float(values.mean()) == pytest.approx(1)
    )
    with pytest.raises(NullspaceError, match="not all zero"):
        least_sensitive(torch.zeros(5, 5, dtype=torch.float64), shift_invariant=True)


@pytest.mark.parametrize("algorithm", ["gradient_descent", "adamw"])
def test_published_is_torchs_own_loop(encoder: Encoder, learn: EncoderData, algorithm: str) -> None:
    rate = {"gradient_descent": 0.5, "adamw": 0.02}[algorithm]
    settings = PublishedSettings(algorithm=algorithm, limit=0.3, learning_rate=rate, rounds=10, batch_size=64)  # type: ignore[arg-type]
    found = learn_published(learn, settings)
    noise = (torch.rand(16, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1) * 0.3
    noise.requires_grad_()
    optimiser = (
        torch.optim.SGD([noise], lr=rate) if algorithm == "gradient_descent" else torch.optim.Adam([noise], rate)
    )
    for round_ in range(10):
        if algorithm == "gradient_descent" and round_ in (3, 6, 8):
            optimiser.param_groups[0]["lr"] /= 10
        if algorithm == "adamw":
            optimiser.param_groups[0]["lr"] = rate * 0.5 * (1 + torch.cos(torch.tensor(torch.pi * round_ / 10)).item())
        optimiser.zero_grad()
        (encoder.logits(learn.states + noise) - learn.clean.logits).norm(dim=-1).mean().backward()
        optimiser.step()
    torch.testing.assert_close(found.noise, noise.detach(), atol=1e-3, rtol=1e-3)
    assert found.image_steps == 640 and len(found.losses) == 10 and found.losses[-1] < found.losses[0]


def test_published_stops_at_epsilon_and_checks_its_settings(learn: EncoderData) -> None:
    easy = PublishedSettings(algorithm="adamw", limit=0.01, rounds=50, batch_size=32, epsilon=0.5)
    found = learn_published(learn, easy)
    assert found.reached_epsilon and len(found.losses) == 1
    assert PublishedSettings().rate == 0.01 and PublishedSettings(algorithm="adamw").rate == 0.1
    wrongs: list[tuple[dict[str, Any], str]] = [
        ({"limit": 0.0}, "limit > 0"),
        ({"algorithm": "sgd"}, "expected an algorithm"),
        ({"epsilon": 0}, "epsilon > 0"),
    ]
    for wrong, message in wrongs:
        with pytest.raises(NullspaceError, match=message):
            PublishedSettings(**wrong)


def test_objectives_are_their_formulas() -> None:
    generator = torch.Generator().manual_seed(0)
    clean, noised = (
        Outputs(torch.randn(4, 3, generator=generator), 2 * torch.randn(4, 5, generator=generator)) for _ in range(2)
    )
    p, q = clean.logits.softmax(-1), noised.logits.softmax(-1)
    prediction = clean.logits.argmax(-1)
    others = noised.logits.clone()
    others[torch.arange(4), prediction] = -torch.inf
    own = noised.logits[torch.arange(4), prediction]
    expected = {
        "logits": (noised.logits - clean.logits).square().sum(-1).sqrt(),
        "squared_logits": (noised.logits - clean.logits).square().sum(-1),
        "features": (noised.features - clean.features).square().sum(-1).sqrt(),
        "squared_probabilities": (q - p).square().sum(-1),
        "kl_divergence": functional.kl_div(q.log(), p, reduction="none").sum(-1),
        "cross_entropy": -q.log()[torch.arange(4), prediction],
        "margin": (1 + others.amax(-1) - own).clamp_min(0),
    }
    assert set(expected) == set(OBJECTIVES)
    for name, values in expected.items():
        torch.testing.assert_close(objective(name)(clean, noised), values)
    with pytest.raises(NullspaceError, match="expected an objective of logits"):
        objective("l2")
