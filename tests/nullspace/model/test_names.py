"""Names beyond timm's list (`local-dir:`, `hf-hub:`), and what timm.create_model may be told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import timm
import torch
from timm.models import save_for_hf

from nullspace.errors import NullspaceError, UnknownModelError, WeightsError
from nullspace.model.names import absolute_name, check_model_args, local_folder
from nullspace.model.vit import SplitViT

NAME = "vit_tiny_patch16_224"
TINY: dict[str, Any] = {"depth": 1, "embed_dim": 24, "num_heads": 3, "img_size": 32, "patch_size": 8, "num_classes": 10}


@pytest.fixture
def made() -> torch.nn.Module:
    return timm.create_model(NAME, **TINY)


@pytest.fixture
def folder(made: torch.nn.Module, tmp_path: Path) -> Path:
    """A model as timm saves it for others."""
    given = {"mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6), "crop_pct": 0.95}
    save_for_hf(made, str(tmp_path / "mine"), data_config=given, safe_serialization=True)
    return tmp_path / "mine"


def test_a_folder_is_a_model(made: torch.nn.Module, folder: Path) -> None:
    model = SplitViT.load(f"local-dir:{folder}")
    assert all(torch.equal(value, model.model.state_dict()[name]) for name, value in made.state_dict().items())
    assert model.weights_source == f"file:{folder / 'model.safetensors'}" and model.notes == ()
    assert (model.preprocessing.mean, model.preprocessing.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert model.preprocessing.input_size == (32, 32) and model.preprocessing.crop_pct == 0.95
    images = torch.rand(2, 3, 32, 32)
    normalised = (images - torch.tensor([0.1, 0.2, 0.3])[:, None, None]) / torch.tensor([0.4, 0.5, 0.6])[:, None, None]
    assert torch.allclose(model(images), made.eval()(normalised), atol=1e-5)


def test_its_weights_are_read_as_any_file(made: torch.nn.Module, folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match=f"expected weights in {folder}"):
        SplitViT.load(f"local-dir:{folder}")
    torch.save({"model": {}, "model_ema": made.state_dict()}, folder / "checkpoint.pth.tar")
    model = SplitViT.load(f"local-dir:{folder}")
    assert model.weights_source == f"file:{folder / 'checkpoint.pth.tar'} (EMA)"
    torch.save({}, folder / "pytorch_model.bin")  # timm prefers it
    with pytest.raises(WeightsError, match=r"pytorch_model\.bin to hold a state dict"):
        SplitViT.load(f"local-dir:{folder}")
    assert SplitViT.load(f"local-dir:{folder}", weights="random").weights_source == "random:0"


def test_missing_weights_are_not_filled_with_random_ones(made: torch.nn.Module, folder: Path) -> None:
    state = {name: value for name, value in made.state_dict().items() if name != "norm.bias"}
    torch.save(state, folder / "w.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"1 missing: norm\.bias"):
        SplitViT.load(f"local-dir:{folder}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "expected .*config.json to name a timm architecture .FileNotFoundError"),
        ("{", "JSONDecodeError"),
        ("[]", "TypeError"),
        (json.dumps({"architecture": "vit_tinny_patch16_224"}), "did you mean vit_tiny_patch16_224"),
    ],
)
def test_a_folder_that_is_no_model(content: str | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(UnknownModelError, match=message):
        SplitViT.load(f"local-dir:{tmp_path}")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("local-dir:/nowhere/x", "expected a folder behind local-dir:, got 'local-dir:/nowhere/x'"),
        ("timm/vit_tiny", "Use 'hf-hub:timm/vit_tiny'"),
        ("ftp:timm/vit_tiny", "Unknown model source 'ftp'"),
        ("hf-hub:", "no model id"),
    ],
)
def test_names_that_lead_nowhere(name: str, message: str) -> None:
    with pytest.raises(UnknownModelError, match=message):
        SplitViT.load(name, weights="random")


@pytest.mark.parametrize("weights", ["pretrained", "random"])
def test_the_hub_without_network_is_one_line(weights: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(NullspaceError, match="hf-hub:nobody/nothing.* cannot be (had|looked up)") as refused:
        SplitViT.load("hf-hub:nobody/nothing", weights=weights)
    assert "\n" not in str(refused.value)


def test_names_by_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute_name("local-dir:mine") == f"local-dir:{tmp_path / 'mine'}"
    assert absolute_name("hf-hub:a/b") == "hf-hub:a/b" and absolute_name(NAME) == NAME
    assert local_folder("local-dir:a b") == Path("a b") and local_folder(NAME) is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"in_chans": 1}, "expected in_chans 3, got 1"),
        ({"pretrained": True}, "'pretrained' cannot be given: `weights` chooses the weights"),
        ({"checkpoint_path": "x"}, "'checkpoint_path' cannot be given"),
        ({"features_only": True}, "a whole model is needed"),
        ({"pretrained_cfg_overlay": {"file": "x"}}, "expected pretrained_cfg_overlay to hold only mean, std"),
    ],
)
def test_arguments_that_are_not_the_users_to_give(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(NullspaceError, match=message):
        check_model_args(arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"colour": "red"}, "does not take these model arguments: .*'colour'"),
        ({"global_pool": "nose"}, "cannot be built with global_pool='nose'"),
        ({"embed_dim": 25}, "cannot be built with embed_dim=25"),
    ],
)
def test_arguments_that_timm_refuses_are_one_line(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(NullspaceError, match=message) as refused:
        SplitViT.load(NAME, weights="random", model_args=arguments)
    assert "\n" not in str(refused.value)


def test_normalisation_of_ones_own() -> None:
    overlay = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
    model = SplitViT.load(NAME, weights="random", model_args={**TINY, "pretrained_cfg_overlay": overlay})
    assert (model.preprocessing.mean, model.preprocessing.std) == ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
