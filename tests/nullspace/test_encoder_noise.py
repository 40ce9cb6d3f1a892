"""Learning null noise: norms held, resume to the bit, better than chance, a radius that is within epsilon."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from nullspace.controls import permuted
from nullspace.encoder_noise import NoiseLearner, NoiseSettings, null_radius
from nullspace.errors import NullspaceError
from nullspace.geometry import mean_token_norm, relative_norm, remove_shift, spread, token_norms
from nullspace.radius import measure
from nullspace.vit import SplitViT

TINY: dict[str, Any] = {
    "depth": 2, "embed_dim": 48, "num_heads": 3, "img_size": 32, "patch_size": 8, "num_classes": 10,
}  # fmt: skip


@pytest.fixture(scope="module")
def model() -> SplitViT:
    """A small random ViT whose encoder and head are scaled up, so that it does react to its input."""
    split = SplitViT.load("vit_tiny_patch16_224", weights="random", model_args=TINY)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, weight in split.model.named_parameters():
            if weight.ndim == 2 and "blocks" in name:
                weight.copy_(torch.randn(weight.shape, generator=generator) * weight.shape[1] ** -0.5 * 1.5)
        split.model.get_submodule("head").get_parameter("weight").normal_(0, 1.0, generator=generator)
    return split


@pytest.fixture(scope="module")
def data(model: SplitViT) -> tuple[Tensor, Tensor]:
    """Tokens and clean logits of 96 random images."""
    images = torch.rand(96, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    tokens = model.tokens(images)
    return tokens, model.logits_from_tokens(tokens)


def learner(model: SplitViT, data: tuple[Tensor, Tensor], **chosen: Any) -> NoiseLearner:
    options = {name: chosen.pop(name) for name in ("micro_batch", "token_norm") if name in chosen}
    shift_invariant = chosen.pop("shift_invariant", True)
    config = NoiseSettings(**{"steps": 20, "batch_size": 16, **chosen})
    return NoiseLearner(model, *data, config, shift_invariant=shift_invariant, **options)


def test_norm_is_held_for_every_token(model: SplitViT, data: tuple[Tensor, Tensor]) -> None:
    learning = learner(model, data, relative_norm=0.4)
    for _ in range(3):
        learning.step()
        wanted = 0.4 * mean_token_norm(data[0])
        assert token_norms(learning.noise).numpy() == pytest.approx(wanted, rel=1e-5)
        assert float(learning.noise.mean(dim=-1).abs().max()) < 1e-6
        assert relative_norm(learning.noise, learning.token_norm) == pytest.approx(0.4, rel=1e-5)
        assert spread(learning.noise) == pytest.approx(1.0, rel=1e-6)


def test_shift_part_is_kept_where_it_counts(model: SplitViT, data: tuple[Tensor, Tensor]) -> None:
    noise = learner(model, data, shift_invariant=False).noise
    assert float(noise.mean(dim=-1).abs().max()) > 1e-3
    wanted = 0.5 * mean_token_norm(data[0])
    assert token_norms(noise).numpy() == pytest.approx(wanted, rel=1e-5)


def test_free_norm_starts_uniform_and_may_move(model: SplitViT, data: tuple[Tensor, Tensor]) -> None:
    learning = learner(model, data, hold="free", limit=0.3, relative_norm=None, shift_invariant=False)
    start = learning.noise
    assert float(start.abs().max()) <= 0.3 and float(start.abs().max()) > 0.28
    assert float(start.std()) == pytest.approx(0.3 / 3**0.5, rel=0.1)
    learning.step()
    assert float(learning.noise.norm()) != pytest.approx(float(start.norm()), rel=1e-6)


def test_step_is_that_of_torch_adam_on_the_published_loss(model: SplitViT, data: tuple[Tensor, Tensor]) -> None:
    learning = learner(
        model, data, hold="free", relative_norm=None, shift_invariant=False, batch_size=96, learning_rate=0.02, steps=5
    )
    noise = learning.noise.requires_grad_()
    adam = torch.optim.Adam([noise], lr=0.02)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, T_max=5)
    for _ in range(5):
        loss = (model.logits_from_tokens(data[0] + noise) - data[1]).norm(dim=-1).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        schedule.step()
        assert learning.step() == pytest.approx(float(loss.detach()), rel=1e-4)
    torch.testing.assert_close(learning.noise, noise.detach(), atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("split_at", [1, 10, 19])
def test_resume_is_bitwise(model: SplitViT, data: tuple[Tensor, Tensor], split_at: int, tmp_path: Path) -> None:
    whole = learner(model, data)
    losses = [whole.step() for _ in range(20)]
    first = learner(model, data)
    resumed_losses = [first.step() for _ in range(split_at)]
    torch.save(first.state_dict(), tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert all(isinstance(value, (Tensor, int)) for value in state.values())
    second = learner(model, data)
    second.load_state_dict(state)
    resumed_losses += [second.step() for _ in range(20 - split_at)]
    assert resumed_losses == losses
    assert torch.equal(second.noise, whole.noise)


def test_state_is_a_snapshot(model: SplitViT, data: tuple[Tensor, Tensor]) -> None:
    learning = learner(model, data)
    learning.step()
    state, noise = learning.state_dict(), learning.noise
    learning.step()
    assert torch.equal(state["noise"], noise) and state["steps_done"] == 1  # type: ignore[arg-type]
    noise.zero_()
    assert float(learning.noise.norm()) > 0


def test_seed_decides(model: SplitViT, data: tuple[Tensor, Tensor]) -> None:
    first, same, other = (learner(model, data, seed=seed) for seed in (1, 1, 2))
    assert [first.step(), first.step()] == [same.step(), same.step()]
    assert torch.equal(first.noise, same.noise)
    assert not torch.equal(first.noise, other.noise)


def test_global_random_state_is_left_alone(model: SplitViT, data: tuple[Tensor, Tensor]) -> None:
    before = torch.get_rng_state()
    learner(model, data).step()
    assert torch.equal(torch.get_rng_state(), before)


def test_micro_batches_give_the_same_step(model: SplitViT, data: tuple[Tensor, Tensor]) -> None:
    whole, pieces = learner(model, data), learner(model, data, micro_batch=5)
    for _ in range(3):
        assert pieces.step() == pytest.approx(whole.step(), rel=1e-5)
    torch.testing.assert_close(pieces.noise, whole.noise, atol=1e-4, rtol=1e-3)


def test_learned_noise_beats_permuted(model: SplitViT) -> None:
    images = torch.rand(896, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    tokens = model.tokens(images)
    logits = model.logits_from_tokens(tokens)
    learning = learner(model, (tokens[:768], logits[:768]), steps=200, batch_size=32, relative_norm=0.25)
    start = learning.noise
    for _ in range(200):
        learning.step()
    changes = {"learned": learning.noise, "start": start}
    for seed in range(4):
        control = permuted(learning.noise, torch.Generator().manual_seed(seed), shift_invariant=True)
        changes[f"permuted {seed}"] = control
    held_out = {
        name: measure(model, tokens[768:], logits[768:], noise).probability_change for name, noise in changes.items()
    }
    learned = held_out.pop("learned")
    assert all(learned < 0.75 * change for change in held_out.values()), (learned, held_out)


@pytest.mark.real
@pytest.mark.slow
def test_learned_noise_beats_permuted_on_deit(assets: Path) -> None:
    split = SplitViT.load(
        "deit_tiny_patch16_224", weights=assets / "deit_tiny_patch16_224" / "model.safetensors", verify=False
    )
    folder = assets / "imagenet_val_600"
    with (folder / "labels.csv").open() as lines:
        files = [row["file"] for row in csv.DictReader(lines)][:80]
    transform = split.preprocessing.transform()
    images = torch.stack([transform(Image.open(folder / "images" / name).convert("RGB")) for name in files]) / 255
    with torch.no_grad():
        tokens = split.tokens(images)
        logits = split.logits_from_tokens(tokens)
    learning = learner(split, (tokens[:32], logits[:32]), steps=12, batch_size=12)
    for _ in range(12):
        learning.step()
    control = permuted(learning.noise, torch.Generator().manual_seed(0), shift_invariant=True)
    learned = measure(split, tokens[32:], logits[32:], learning.noise)
    shuffled = measure(split, tokens[32:], logits[32:], control)
    assert learned.probability_change < 0.9 * shuffled.probability_change
    assert learned.agreement >= shuffled.agreement


def test_divergence_is_an_error(model: SplitViT, data: tuple[Tensor, Tensor]) -> None:
    learning = learner(model, data, hold="free", relative_norm=None, limit=1e37, learning_rate=1e38)
    with pytest.raises(NullspaceError, match="diverged at step 1.*lower them"):
        for _ in range(20):
            learning.step()
    assert torch.isfinite(learning.noise).all()


def test_more_steps_than_planned_is_an_error(model: SplitViT, data: tuple[Tensor, Tensor]) -> None:
    learning = learner(model, data, steps=1)
    learning.step()
    with pytest.raises(NullspaceError, match="all 1 steps are done"):
        learning.step()


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"relative_norm": None}, "relative_norm > 0"),
        ({"relative_norm": -0.5}, "relative_norm > 0"),
        ({"learning_rate": 0.0}, "learning_rate > 0"),
        ({"learning_rate": float("nan")}, "learning_rate > 0"),
        ({"steps": 0}, "steps > 0"),
        ({"batch_size": 0}, "batch_size > 0"),
        ({"hold": "free", "limit": 0.0}, "limit > 0"),
        ({"hold": "tokens"}, "hold"),
    ],
    ids=str,
)
def test_settings_are_checked(chosen: dict[str, Any], message: str) -> None:
    with pytest.raises(NullspaceError, match=message):
        NoiseSettings(**chosen)


def test_data_and_state_are_checked(model: SplitViT, data: tuple[Tensor, Tensor]) -> None:
    tokens, logits = data
    with pytest.raises(NullspaceError, match="same n >= 1 images"):
        learner(model, (tokens, logits[:5]))
    with pytest.raises(NullspaceError, match="clean logits of 2 of 96 images are not finite"):
        learner(model, (tokens, torch.where(torch.arange(96)[:, None] < 2, torch.nan, logits)))
    with pytest.raises(NullspaceError, match="micro_batch"):
        learner(model, data, micro_batch=0)
    with pytest.raises(NullspaceError, match="positive finite mean token norm"):
        learner(model, data, token_norm=0.0)
    state = learner(model, data).state_dict()
    with pytest.raises(NullspaceError, match="learner state"):
        learner(model, data).load_state_dict({"noise": state["noise"]})
    stepped = learner(model, (tokens[:40], logits[:40]))
    stepped.step()
    with pytest.raises(NullspaceError, match="resume with the same model and images"):
        learner(model, data).load_state_dict(stepped.state_dict())


def test_radius_is_the_largest_scale_within_epsilon(model: SplitViT, data: tuple[Tensor, Tensor]) -> None:
    noise = learner(model, data).noise
    found = null_radius(model, *data, noise, epsilon=0.05, batch_size=20)
    assert 0 < found.scale < 4 and not found.capped and found.n == 96 and len(found.measurements) <= 14
    assert found.probability_change <= 0.05
    again = measure(model, *data, noise, scale=found.scale)
    assert again.probability_change == pytest.approx(found.probability_change, rel=1e-4)
    assert again.agreement == found.agreement
    beyond = [trial for trial in found.measurements if trial.scale > found.scale]
    assert beyond and all(trial.probability_change > 0.05 for trial in beyond)
    assert beyond[0].scale <= 1.04 * found.scale
    assert found == null_radius(model, *data, noise, epsilon=0.05, batch_size=20)


def test_radius_ends(model: SplitViT, data: tuple[Tensor, Tensor]) -> None:
    noise = learner(model, data).noise
    capped = null_radius(model, *data, noise, epsilon=5.0, max_scale=3.0)
    assert capped.capped and capped.scale == 3.0
    nothing = null_radius(model, *data, noise, epsilon=1e-12)
    assert nothing.scale == 0.0 and not nothing.capped
    assert nothing.probability_change == nothing.measurements[0].probability_change > 1e-12
    small = null_radius(model, *data, 10 * noise, epsilon=0.05)
    assert 0 < small.scale < 0.1


def test_radius_needs_no_gradient_and_checks_its_input(model: SplitViT, data: tuple[Tensor, Tensor]) -> None:
    noise = learner(model, data).noise.requires_grad_()
    null_radius(model, *data, noise, epsilon=0.05)
    assert noise.grad is None
    with pytest.raises(NullspaceError, match="like one image's tokens"):
        null_radius(model, *data, noise[:3], epsilon=0.05)
    with pytest.raises(NullspaceError, match="epsilon > 0"):
        null_radius(model, *data, noise, epsilon=0.0)
    with pytest.raises(NullspaceError, match="not finite"):
        null_radius(model, *data, noise * torch.nan, epsilon=0.05)
    with pytest.raises(NullspaceError, match="same n >= 1 images"):
        null_radius(model, data[0], data[1][:3], noise, epsilon=0.05)


def test_settings_are_plain_values() -> None:
    assert dataclasses.asdict(NoiseSettings())["hold"] == "token"


@given(st.integers(1, 9), st.integers(2, 7), st.floats(-1e6, 1e6), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_shift_never_counts(tokens: int, width: int, shift: float, seed: int) -> None:
    noise = torch.randn(tokens, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    shifted = noise + shift
    assert relative_norm(shifted, 2.0) == pytest.approx(relative_norm(noise, 2.0), rel=1e-6)
    torch.testing.assert_close(remove_shift(remove_shift(noise)), remove_shift(noise))
    assert 1 / tokens - 1e-9 <= spread(noise) <= 1 + 1e-9


@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
def test_spread_at_its_ends(size: float) -> None:
    assert spread(torch.zeros(5, 4)) == 0.0
    one = torch.zeros(5, 4)
    one[2] = size
    assert spread(one) == pytest.approx(1 / 5)
    assert spread(torch.full((5, 4), size)) == pytest.approx(1.0)


def test_mean_token_norm_is_over_images_and_tokens() -> None:
    tokens = torch.tensor([[[3.0, 4.0], [0.0, 1.0]], [[0.0, 0.0], [6.0, 8.0]]])
    assert mean_token_norm(tokens) == pytest.approx((5 + 1 + 0 + 10) / 4)
    with pytest.raises(NullspaceError, match="at least one image"):
        mean_token_norm(torch.empty(0, 4, 3))
