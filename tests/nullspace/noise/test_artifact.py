"""Noise on disk and on the model: exact round trips, damage found, nothing left behind."""

from __future__ import annotations

import dataclasses
import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from nullspace.errors import ArtifactError
from nullspace.metrics.unit import Unit
from nullspace.model.encoder import Encoder
from nullspace.model.vit import SplitViT
from nullspace.noise.artifact import NullNoise, library_versions

BUILDS: dict[str, tuple[str, dict[str, Any]]] = {
    "nlc": ("vit_tiny_patch16_224", {"depth": 2, "embed_dim": 48, "num_heads": 3, "img_size": 32, "patch_size": 8}),
    "nhwc": ("swin_tiny_patch4_window7_224", {"depths": (1, 1, 1, 1)}),
    "nchw": ("pit_ti_224", {}),
}


def load(build: str) -> SplitViT:
    name, arguments = BUILDS[build]
    return SplitViT.load(name, weights="random", model_args=arguments, verify=False)


@pytest.fixture(scope="module")
def model() -> SplitViT:
    return load("nlc")


def noise_for(model: SplitViT, **changes: Any) -> NullNoise:
    fields: dict[str, Any] = {
        "tensor": torch.randn(model.num_patches, model.embed_dim, generator=torch.Generator().manual_seed(0)),
        "model_name": model.name,
        "weights_sha256": model.weights_sha256,
        "norm": 1 / 3,
        "effective_norm": 0.25,
        "relative_norm": 0.1,
        "spread": 1.0,
        "token_norm": 36.5,
        "shift_invariant": True,
        "objective": "logits-l2",
        "settings": {"steps": 200, "learning_rate": 0.05, "hold": "token", "limit": None},
        "seed": 7,
        "data_fingerprint": "abc",
        "versions": library_versions(),
    }
    return NullNoise(**{**fields, **changes})


def images_for(model: SplitViT) -> torch.Tensor:
    return torch.rand(2, 3, *model.preprocessing.input_size, generator=torch.Generator().manual_seed(1))


def test_round_trip_is_exact(model: SplitViT, tmp_path: Path) -> None:
    noise = noise_for(model)
    noise.save(tmp_path / "noise.safetensors")
    again = NullNoise.load(tmp_path / "noise.safetensors")
    assert torch.equal(again.tensor, noise.tensor)
    for field in dataclasses.fields(NullNoise):
        if field.name != "tensor":
            assert getattr(again, field.name) == getattr(noise, field.name), field.name
    assert [file.name for file in tmp_path.iterdir()] == ["noise.safetensors"]


def test_what_is_saved_is_safetensors_with_readable_metadata(model: SplitViT, tmp_path: Path) -> None:
    path = tmp_path / "noise.safetensors"
    noise_for(model).save(path)
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    assert header["noise"]["dtype"] == "F32" and header["noise"]["shape"] == [16, 48]
    assert json.loads(header["__metadata__"]["metadata"])["model_name"] == model.name


def test_a_transposed_or_sliced_tensor_is_saved_as_it_reads(model: SplitViT, tmp_path: Path) -> None:
    tensor = torch.arange(48 * 32, dtype=torch.float32).view(48, 32).T[::2]
    noise_for(model, tensor=tensor).save(tmp_path / "n")
    assert torch.equal(NullNoise.load(tmp_path / "n").tensor, tensor)


@pytest.mark.parametrize("where", ["tensor", "metadata", "hash", "cut", "empty", "text"])
def test_damage_is_found(where: str, model: SplitViT, tmp_path: Path) -> None:
    path = tmp_path / "noise.safetensors"
    noise_for(model).save(path)
    content = path.read_bytes()
    damaged = {
        "tensor": content[:-1] + bytes([content[-1] ^ 1]),
        "metadata": content.replace(b'relative_norm\\": 0.1', b'relative_norm\\": 0.9'),
        "hash": content.replace(b'"sha256":"', b'"sha257":"'),
        "cut": content[:-10],
        "empty": b"",
        "text": b"this is not a noise file",
    }[where]
    assert damaged != content
    path.write_bytes(damaged)
    with pytest.raises(ArtifactError, match="is damaged"):
        NullNoise.load(path)


def test_foreign_and_missing_files(model: SplitViT, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="which is no file; check the path"):
        NullNoise.load(tmp_path / "none.safetensors")
    save_file({"weight": torch.zeros(2, 2)}, tmp_path / "weights.safetensors")
    with pytest.raises(ArtifactError, match="to be a noise file .* got 'no such mark'"):
        NullNoise.load(tmp_path / "weights.safetensors")
    save_file(
        {"noise": torch.zeros(2, 2)}, tmp_path / "later.safetensors", metadata={"format": "nullspace-null-noise/9"}
    )
    with pytest.raises(ArtifactError, match="got 'nullspace-null-noise/9'"):
        NullNoise.load(tmp_path / "later.safetensors")


def test_a_failed_save_says_so_and_leaves_the_old_file(model: SplitViT, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="cannot write the noise"):
        noise_for(model).save(tmp_path / "nowhere" / "noise.safetensors")
    path = tmp_path / "noise.safetensors"
    noise_for(model).save(path)
    before = path.read_bytes()
    with pytest.raises(ArtifactError, match="plain JSON"):
        noise_for(model, settings={"path": Path(".")}).save(path)
    with pytest.raises(ArtifactError, match="expected finite numbers in the metadata, got nan as spread"):
        noise_for(model, spread=float("nan")).save(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"tensor": torch.zeros(16, 48, dtype=torch.float64)}, "of float32, got torch.float64"),
        ({"tensor": torch.zeros(1, 16, 48)}, r"got torch.float32 of shape \(1, 16, 48\)"),
        ({"tensor": torch.full((16, 48), torch.inf)}, "expected finite noise"),
        ({"injection": "pixels"}, "expected an injection point 'patch_tokens' or 'block:0', got 'pixels'; update"),
    ],
    ids=["dtype", "shape", "infinite", "injection"],
)
def test_fields_that_do_not_fit(changes: dict[str, Any], why: str, model: SplitViT) -> None:
    with pytest.raises(ArtifactError, match=why):
        noise_for(model, **changes)


def hooks_of(model: SplitViT) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


@pytest.mark.parametrize("build", BUILDS)
def test_applied_adds_the_noise_to_every_token(build: str) -> None:
    model = load(build)
    noise, images = noise_for(model), images_for(model)
    with torch.no_grad():
        tokens, clean = model.tokens(images), model(images)
        with noise.apply(model, scale=0.5) as same:
            assert same is model
            torch.testing.assert_close(model.tokens(images), tokens + 0.5 * noise.tensor)
            torch.testing.assert_close(model(images), model.logits_from_tokens(tokens + 0.5 * noise.tensor))
            assert float((model(images) - clean).abs().max()) > 1e-3
        assert torch.equal(model(images), clean)
    assert hooks_of(model) == 0


@torch.no_grad()
def test_noise_before_a_block_is_added_there(model: SplitViT) -> None:
    encoder = Encoder(model, "block:1")
    noise, images = noise_for(model, injection="block:1"), images_for(model)
    clean = model(images)
    with noise.apply(model):
        expected = encoder.logits(encoder.add(encoder.states(images), torch.zeros(encoder.noise_shape)))
        torch.testing.assert_close(model(images), model.logits_from_tokens(model.tokens(images)))
        noised = model(images)
    torch.testing.assert_close(noised, encoder.logits(encoder.add(encoder.states(images), noise.tensor)))
    assert float((noised - clean).abs().max()) > 1e-3 and torch.equal(model(images), clean)
    assert hooks_of(model) == 0 and expected.shape == clean.shape


def test_norms_are_measured(model: SplitViT) -> None:
    tensor = torch.randn(16, 48, generator=torch.Generator().manual_seed(0)) + 5
    facts: dict[str, Any] = {"model": model, "objective": "logits", "seed": 0, "data_fingerprint": "d"}
    noise = NullNoise.of(tensor, Unit(10.0, shift_invariant=True), **facts)
    assert (noise.model_name, noise.weights_sha256) == (model.name, model.weights_sha256)
    centred = tensor - tensor.mean(-1, keepdim=True)
    assert noise.norm == pytest.approx(float(tensor.norm())) and noise.norm > 4 * noise.effective_norm
    assert noise.effective_norm == pytest.approx(float(centred.norm()))
    assert noise.relative_norm == pytest.approx(float(centred.norm(dim=-1).mean()) / 10)
    other = NullNoise.of(tensor, Unit(10.0, shift_invariant=False), **facts)
    assert other.effective_norm == other.norm and noise.versions["torch"] == torch.__version__.partition("+")[0]


def test_nested_uses_add_up_and_opposites_cancel(model: SplitViT) -> None:
    noise, images = noise_for(model), images_for(model)
    with torch.no_grad():
        tokens = model.tokens(images)
        with noise.apply(model):
            with noise.apply(model, scale=2.0):
                torch.testing.assert_close(model.tokens(images), tokens + 3 * noise.tensor)
                with noise.apply(model, scale=-3.0):
                    torch.testing.assert_close(model.tokens(images), tokens, atol=1e-5, rtol=0)
            torch.testing.assert_close(model.tokens(images), tokens + noise.tensor)
        assert torch.equal(model.tokens(images), tokens)
    assert hooks_of(model) == 0


def test_no_hook_is_left_after_an_error(model: SplitViT) -> None:
    with pytest.raises(RuntimeError, match="in the block"), noise_for(model).apply(model):
        raise RuntimeError("in the block")
    assert hooks_of(model) == 0


def test_applied_follows_the_models_dtype() -> None:
    model = load("nlc").double()
    with noise_for(model).apply(model):
        assert model.tokens(images_for(model)).dtype == torch.float64


def test_noise_of_another_model_is_refused(model: SplitViT) -> None:
    foreign = noise_for(model, weights_sha256="0" * 64, model_name="other")
    with (
        pytest.raises(ArtifactError, match="made for other with weights 000000000000, got vit_tiny"),
        foreign.apply(model),
    ):
        pass
    with foreign.apply(model, check_weights=False):
        assert hooks_of(model) == 1
    small = noise_for(model, tensor=torch.zeros(15, 48))
    with (
        pytest.raises(ArtifactError, match=r"expected noise of shape \(16, 48\) .* got \(15, 48\)"),
        small.apply(model, check_weights=False),
    ):
        pass
    assert hooks_of(model) == 0
