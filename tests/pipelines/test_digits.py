"""The packaged digits: the data and its split, the model in timm's registry, its weights, and their training."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import safetensors
import timm
import torch
from timm.data.config import resolve_model_data_config

from pipelines.digits import MODEL_NAME, data, register, train
from pipelines.digits.model import weights_path
from tests.waiting import run


def test_the_split_is_fixed_stratified_and_whole() -> None:
    everything, training, held_out = data.load("all"), data.load("train"), data.load("held_out")
    assert (len(training.ids), len(held_out.ids)) == (1197, 600)
    assert set(training.ids).isdisjoint(held_out.ids)
    assert sorted(training.ids + held_out.ids) == everything.ids
    assert held_out.ids[:3] == ["digit-0003", "digit-0004", "digit-0006"]  # moving the split would leak training images
    expected = np.bincount(everything.labels) * 600 / 1797
    assert np.abs(np.bincount(held_out.labels) - expected).max() <= 1


def test_images_are_scaled_to_8_bit_grey_in_three_channels() -> None:
    digits = data.load("held_out")
    assert digits.images.shape == (600, 64, 64, 3) and digits.images.dtype == np.uint8
    assert (digits.images == digits.images[..., :1]).all()
    # Room on both sides for noise and marks; bicubic overshoots paper and ink a little.
    assert 48 <= digits.images.min() <= data.PAPER and data.INK <= digits.images.max() <= 240
    assert [int(data.upscale(np.full((8, 8), ink))[0, 0, 0]) for ink in (0, 8, 16)] == [data.PAPER, 144, data.INK]


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(ValueError, match="split of train, held_out, all, got 'test'"):
        data.load("test")  # pyright: ignore[reportArgumentType]


def test_the_shipped_weights_reach_their_accuracy() -> None:
    register()
    model = timm.create_model(MODEL_NAME, pretrained=True)
    assert train.accuracy(model, data.load("held_out")) >= 0.98


def test_the_weights_file_is_small_and_says_how_it_was_made() -> None:
    assert weights_path().stat().st_size <= 2_000_000
    with safetensors.safe_open(weights_path(), framework="pt") as file:
        metadata = file.metadata()
    assert metadata["script"] == "python -m pipelines.digits.train"
    assert metadata["architecture"] == MODEL_NAME and metadata["seed"] == str(train.SEED)
    assert metadata["epochs"] == str(train.EPOCHS) and float(metadata["held_out_accuracy"]) >= 0.98
    assert "torch" in metadata["versions"]


def test_the_patch_embedding_has_a_kernel() -> None:
    register()
    weight = timm.create_model(MODEL_NAME, pretrained=True).get_parameter("patch_embed.proj.weight")
    assert tuple(weight.shape) == (96, 3, 16, 16)
    assert int(torch.linalg.matrix_rank(weight.detach().double().reshape(96, 768))) == 96  # nullity 768 - 96


def test_the_model_is_built_at_random_and_with_another_head() -> None:
    register()
    seeded = []
    for _ in range(2):
        torch.manual_seed(3)
        seeded.append(timm.create_model(MODEL_NAME, pretrained=False).state_dict())
    assert all(torch.equal(seeded[0][key], seeded[1][key]) for key in seeded[0])
    assert timm.create_model(MODEL_NAME, pretrained=True, num_classes=3)(torch.zeros(2, 3, 64, 64)).shape == (2, 3)


def test_timm_knows_the_preprocessing() -> None:
    register()
    config = resolve_model_data_config(timm.create_model(MODEL_NAME))
    assert config["input_size"] == (3, 64, 64) and config["interpolation"] == "bilinear"
    assert config["mean"] == config["std"] == (0.5, 0.5, 0.5) and config["crop_pct"] == 1.0


def test_registering_is_explicit_and_idempotent() -> None:
    code = """
import json, sys, warnings
warnings.simplefilter("error", UserWarning)
import pipelines.digits
light = "torch" not in sys.modules
import timm
before = timm.is_model("nullspace_digits_vit")
pipelines.digits.register(); pipelines.digits.register()
known = timm.list_models("nullspace_digits*", pretrained=True)
print(json.dumps([light, before, known]))
"""
    done = run([sys.executable, "-c", code], check=True)
    assert json.loads(done.stdout) == [True, False, [MODEL_NAME]]


def test_training_twice_gives_identical_weights() -> None:
    threads, state = torch.get_num_threads(), torch.random.get_rng_state()
    first, accuracy = train.train(1)
    torch.manual_seed(99)  # what the process drew before must not matter
    second, again = train.train(1)
    torch.random.set_rng_state(state)
    ours, theirs = first.state_dict(), second.state_dict()
    assert accuracy == again and all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert not torch.equal(ours["head.weight"], train.train(0)[0].state_dict()["head.weight"])
    assert torch.get_num_threads() == threads and not torch.are_deterministic_algorithms_enabled()


def test_another_seed_gives_other_weights() -> None:
    first, second = (train.train(0, seed=seed)[0].state_dict() for seed in (0, 1))
    assert not torch.equal(first["head.weight"], second["head.weight"])


def test_saved_weights_load_again(tmp_path) -> None:
    model, accuracy = train.train(0)
    train.save(model, tmp_path / "w.safetensors", epochs=0, seed=0, held_out_accuracy=accuracy)
    loaded = timm.create_model(MODEL_NAME, checkpoint_path=str(tmp_path / "w.safetensors"))
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in model.state_dict().items())


def test_augmentation_moves_by_a_few_pixels_and_shows_paper_beyond() -> None:
    paper = data.PAPER / 127.5 - 1
    images = torch.full((64, 1, 64, 64), paper)
    images[:, :, 32, 32] = 1.0
    moved = train._shifted(images, torch.Generator().manual_seed(0))
    places = (moved == 1).nonzero()
    assert len(places) == 64 and moved.shape == images.shape
    assert float((moved - paper).clamp(max=0).abs().max()) < 1e-6
    offsets = places[:, 2:] - 32
    assert offsets.abs().max() == train.MAX_SHIFT and len(offsets.unique(dim=0)) > 30
