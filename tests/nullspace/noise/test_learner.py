"""Learning null noise: norms held, rank kept, resume to the bit, better than chance, errors."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from nullspace.errors import NullspaceError
from nullspace.metrics.controls import permuted
from nullspace.metrics.draws import Draws
from nullspace.metrics.encoder_data import EncoderData
from nullspace.metrics.norms import mean_token_norm, spread, token_norms
from nullspace.metrics.radius import measure
from nullspace.metrics.unit import Unit
from nullspace.model.encoder import Encoder
from nullspace.noise.learner import NoiseSettings
from nullspace.noise.objectives import OBJECTIVES
from tests.nullspace.reacting import TINY, data_of, learner, reacting


def test_norm_is_held_for_every_token(data: EncoderData) -> None:
    learning = learner(data, relative_norm=0.4)
    for _ in range(3):
        learning.step()
        wanted = 0.4 * mean_token_norm(data.states)
        assert token_norms(learning.noise).numpy() == pytest.approx(wanted, rel=1e-5)
        assert float(learning.noise.mean(dim=-1).abs().max()) < 1e-6
        assert learning.data.unit.relative_norm(learning.noise) == pytest.approx(0.4, rel=1e-5)
        assert spread(learning.noise) == pytest.approx(1.0, rel=1e-6)


def test_shift_part_is_kept_where_it_counts(data: EncoderData) -> None:
    noise = learner(replace(data, unit=Unit(data.unit.token_norm, shift_invariant=False))).noise
    assert float(noise.mean(dim=-1).abs().max()) > 1e-3
    wanted = 0.5 * mean_token_norm(data.states)
    assert token_norms(noise).numpy() == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("rank", [1, 3])
def test_low_rank_is_kept(data: EncoderData, rank: int) -> None:
    learning = learner(data, ranks=(rank,), learning_rate=0.2)
    for _ in range(4):
        learning.step()
    sizes = torch.linalg.svdvals(learning.noise.double())
    assert int((sizes > 1e-5 * sizes[0]).sum()) == rank
    assert spread(learning.noise) == pytest.approx(1.0, rel=1e-6)


def test_ranks_follow_each_other_without_a_jump(data: EncoderData) -> None:
    learning = learner(data, ranks=(1, 3, 100), steps=7, learning_rate=0.2)
    found = []
    for _ in range(7):
        learning.step()
        found.append(int(torch.linalg.matrix_rank(learning.noise.double(), rtol=1e-6)))
    assert found == [1, 1, 3, 3, 3, 16, 16], "100 is more than a tensor of 16 tokens has"
    settings = NoiseSettings(ranks=(1, 3, 100), steps=7)
    assert [settings.phase(step).begin for step in range(8)] == [0, 0, 2, 2, 2, 5, 5, 5]
    assert settings.rate(2) == settings.learning_rate > settings.rate(3) > 0


def test_a_step_is_that_of_torch_adam(encoder: Encoder, data: EncoderData) -> None:
    """The whole tensor, by autograd through the normalisation, with Adam's rate scaled to the noise's own size."""
    learning = learner(data, ranks=None, batch_size=96, steps=5, learning_rate=0.05)
    wanted = 0.5 * learning.data.unit.token_norm
    noise = learning.noise.requires_grad_()
    adam = torch.optim.Adam([noise], betas=(0.9, 0.99), eps=0)
    for step in range(5):
        centred = noise - noise.mean(-1, keepdim=True)
        held = centred * (wanted / centred.norm(dim=-1, keepdim=True))
        loss = (encoder.logits(data.states + held) - data.clean.logits).norm(dim=-1).mean()
        adam.zero_grad()
        loss.backward()
        size = float(noise.detach().square().mean().sqrt())
        adam.param_groups[0]["lr"] = 0.05 * size * 0.5 * (1 + math.cos(math.pi * step / 5))
        adam.step()
        assert learning.step() == pytest.approx(float(loss.detach()), rel=1e-4)
    centred = (noise - noise.mean(-1, keepdim=True)).detach()
    expected = centred * (wanted / centred.norm(dim=-1, keepdim=True))
    torch.testing.assert_close(learning.noise, expected, atol=2e-3, rtol=1e-2)


def test_learning_goes_on_from_a_given_noise(data: EncoderData) -> None:
    first = learner(data, ranks=(1,))
    for _ in range(3):
        first.step()
    second = learner(data, ranks=(4,), relative_norm=1.0, start_noise=first.noise)
    torch.testing.assert_close(second.noise, 2 * first.noise, atol=1e-4, rtol=1e-4)
    second.step()
    assert int(torch.linalg.matrix_rank(second.noise.double(), rtol=1e-6)) == 4
    with pytest.raises(NullspaceError, match="finite start of shape"):
        learner(data, start_noise=first.noise[:3])


def test_one_noise_per_image(encoder: Encoder, data: EncoderData) -> None:
    few = data.subset(slice(0, 10))
    learning = learner(few, scope="image", ranks=None, start="random", learning_rate=0.1, micro_batch=4)
    losses = [learning.step() for _ in range(20)]
    assert learning.noise.shape == (10, *encoder.noise_shape)
    assert token_norms(learning.noise).numpy() == pytest.approx(0.5 * learning.data.unit.token_norm, rel=1e-5)
    assert losses[-1] < 0.8 * losses[0]


def test_one_noise_per_image_does_not_depend_on_the_others(encoder: Encoder, data: EncoderData) -> None:
    start = torch.randn(6, *encoder.noise_shape, generator=torch.Generator().manual_seed(3))
    options: dict[str, Any] = {"scope": "image", "start": "random", "ranks": None}
    both = learner(data.subset(slice(0, 6)), start_noise=start, **options)
    one = learner(data.subset(slice(0, 1)), start_noise=start[:1], **options)
    torch.testing.assert_close(both.noise[:1], one.noise)
    both.step()
    one.step()
    moved = (both.noise[:1] - one.noise).norm() / one.noise.norm()
    assert float(moved) < 0.02, "only the size of Adam's step is shared"


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_is_lowered_by_learning(data: EncoderData, name: str) -> None:
    learning = learner(data, objective=name, ranks=None, learning_rate=0.1, batch_size=96)
    losses = [learning.step() for _ in range(12)]
    assert losses[-1] < 0.95 * losses[0]


def test_before_a_block() -> None:
    encoder = Encoder(reacting(TINY), "block:1")
    data = data_of(encoder, 48, seed=2)
    learning = learner(data, ranks=(2,), batch_size=48)
    losses = [learning.step() for _ in range(20)]
    assert losses[-1] < 0.95 * losses[0] and learning.noise.shape == encoder.noise_shape


def test_mixed_precision_learns_nearly_the_same(data: EncoderData) -> None:
    whole, half = learner(data, start="random"), learner(data, start="random", precision="bfloat16")
    losses = (whole.step(), half.step())
    assert losses[0] == pytest.approx(losses[1], rel=0.1) and losses[0] != losses[1]
    assert half.noise.dtype == torch.float32 and bool(torch.isfinite(half.noise).all())


def test_the_start_is_made_when_it_is_needed(data: EncoderData) -> None:
    first = learner(data)
    assert first.image_steps == 0
    first.step()
    assert first.image_steps > 16, "the start counts too"
    resumed = learner(data)
    resumed.load_state_dict(first.state_dict())
    resumed.step()
    assert resumed.image_steps == first.image_steps + 16


@pytest.mark.parametrize("split_at", [1, 5, 10, 19])
def test_resume_is_bitwise(data: EncoderData, split_at: int, tmp_path: Path) -> None:
    whole = learner(data)
    losses = [whole.step() for _ in range(20)]
    first = learner(data)
    resumed_losses = [first.step() for _ in range(split_at)]
    torch.save(first.state_dict(), tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert all(isinstance(value, (Tensor, int)) for value in state.values())
    second = learner(data)
    second.load_state_dict(state)
    resumed_losses += [second.step() for _ in range(20 - split_at)]
    assert resumed_losses == losses
    assert torch.equal(second.noise, whole.noise)


def test_state_is_a_snapshot(data: EncoderData) -> None:
    learning = learner(data)
    learning.step()
    state, noise = learning.state_dict(), learning.noise
    learning.step()
    other = learner(data)
    other.load_state_dict(state)
    assert torch.equal(other.noise, noise) and state["steps_done"] == 1
    noise.zero_()
    assert float(learning.noise.norm()) > 0


def test_seed_decides(data: EncoderData) -> None:
    first, same, other = (learner(data, seed=seed) for seed in (1, 1, 2))
    assert [first.step(), first.step()] == [same.step(), same.step()]
    assert torch.equal(first.noise, same.noise)
    assert not torch.equal(first.noise, other.noise)


def test_global_random_state_is_left_alone(data: EncoderData) -> None:
    before = torch.get_rng_state()
    learner(data).step()
    assert torch.equal(torch.get_rng_state(), before)


def test_micro_batches_give_the_same_step(data: EncoderData) -> None:
    whole, pieces = learner(data), learner(data, micro_batch=5)
    for _ in range(3):
        assert pieces.step() == pytest.approx(whole.step(), rel=1e-5)
    torch.testing.assert_close(pieces.noise, whole.noise, atol=1e-4, rtol=1e-3)


def test_learned_noise_beats_permuted(encoder: Encoder) -> None:
    data = data_of(encoder, 512, seed=1)
    learn, test = data.subset(slice(0, 384)), data.subset(slice(384, None))
    learning = learner(learn, steps=100, batch_size=32, relative_norm=0.25, ranks=(1, 4))
    start = learning.noise
    for _ in range(100):
        learning.step()
    changes = {"learned": learning.noise, "start": start}
    for seed in range(4):
        control = permuted(learning.noise, Draws(seed, "permuted", ["a"]), shift_invariant=True, hold="token")[0]
        changes[f"permuted {seed}"] = control
    found = {name: measure(test, noise).probability_change for name, noise in changes.items()}
    learned = found.pop("learned")
    assert learned < found.pop("start")
    assert all(learned < 0.5 * change for change in found.values()), (learned, found)


def test_divergence_is_an_error(data: EncoderData) -> None:
    learning = learner(data, ranks=None, start="random", learning_rate=1e38)
    with pytest.raises(NullspaceError, match="diverged at step.*lower them"):
        for _ in range(20):
            learning.step()
    assert torch.isfinite(learning.noise).all()


def test_more_steps_than_planned_is_an_error(data: EncoderData) -> None:
    learning = learner(data, ranks=None, steps=1)
    learning.step()
    with pytest.raises(NullspaceError, match="all 1 steps are done"):
        learning.step()


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"relative_norm": -0.5}, "relative_norm > 0"),
        ({"learning_rate": 0.0}, "learning_rate > 0"),
        ({"learning_rate": float("nan")}, "learning_rate > 0"),
        ({"steps": 0}, "steps > 0"),
        ({"batch_size": 0}, "batch_size > 0"),
        ({"ranks": (0,)}, "rising ranks >= 1"),
        ({"ranks": ()}, "rising ranks >= 1"),
        ({"ranks": (4, 2)}, "rising ranks >= 1"),
        ({"ranks": (1, 2, 3), "steps": 2}, "one step for each of the ranks"),
        ({"ranks": (2,), "scope": "image", "start": "random"}, "directions are shared"),
        ({"ranks": None, "scope": "image"}, "a channel start is one for all"),
        ({"objective": "logit"}, "expected an objective of logits"),
        ({"start": "zero"}, "expected start of channels, random"),
        ({"precision": "float16"}, "expected precision of float32, bfloat16"),
    ],
    ids=str,
)
def test_settings_are_checked(chosen: dict[str, Any], message: str) -> None:
    with pytest.raises(NullspaceError, match=message):
        NoiseSettings(**chosen)


def test_settings_are_plain_values() -> None:
    assert json.loads(json.dumps(dataclasses.asdict(NoiseSettings())))["ranks"] == [1, 4, 16, 64]


def test_options_and_state_are_checked(data: EncoderData) -> None:
    with pytest.raises(NullspaceError, match="micro_batch"):
        learner(data, micro_batch=0)
    state = learner(data).state_dict()
    with pytest.raises(NullspaceError, match="learner state"):
        learner(data).load_state_dict({"order": state["order"]})
    with pytest.raises(NullspaceError, match="same model, images and settings"):
        learner(data, ranks=(2,)).load_state_dict(state)
    stepped = learner(data.subset(slice(0, 40)))
    stepped.step()
    with pytest.raises(NullspaceError, match="resume with the same model and images"):
        learner(data).load_state_dict(stepped.state_dict())
