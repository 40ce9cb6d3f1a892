"""What a file's shapes say: classes and input size are taken from them, and only a size asked for is resampled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from nullspace.errors import WeightsError
from nullspace.model.vit import SplitViT

NAME, DISTILLED, BEIT = "vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224", "beit_base_patch16_224"
SMALL: dict[str, Any] = {"depth": 1, "embed_dim": 24, "num_heads": 3, "patch_size": 8}
TINY: dict[str, Any] = {**SMALL, "img_size": 32}


def stored(folder: Path, name: str = NAME, **arguments: Any) -> Path:
    """Weights of a small model made with `arguments`, as a file."""
    torch.manual_seed(1)
    model = timm.create_model(name, **{**SMALL, **arguments})
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    save_file(model.state_dict(), folder / "w.safetensors")
    return folder / "w.safetensors"


def load(path: Path, name: str = NAME, **arguments: Any) -> SplitViT:
    return SplitViT.load(name, weights=path, model_args={**SMALL, **arguments})


@pytest.mark.parametrize("name", [NAME, DISTILLED, BEIT])
def test_classes_and_input_size(name: str, tmp_path: Path) -> None:
    model = load(stored(tmp_path, name, img_size=48, num_classes=7), name)
    assert model.num_classes == 7 and model(torch.rand(1, 3, 48, 48)).shape == (1, 7)
    assert model.preprocessing.input_size == (48, 48) and model.grid == (6, 6)
    assert model.notes == ("7 classes and 48x48 input from the file's shapes",)
    explicit = load(tmp_path / "w.safetensors", name, img_size=48, num_classes=7)
    assert explicit.weights_sha256 == model.weights_sha256 and explicit.notes == ()


@pytest.mark.parametrize(
    ("made", "noted"),
    [({"img_size": 224, "num_classes": 1000}, ()), ({"img_size": 224, "num_classes": 2}, ("2 classes",))],
    ids=["as timm declares", "classes"],
)
def test_notes_name_only_what_differs(made: dict[str, Any], noted: tuple[str, ...], tmp_path: Path) -> None:
    notes = load(stored(tmp_path, **made)).notes
    assert notes == tuple(f"{note} from the file's shapes" for note in noted)


@pytest.mark.parametrize("options", [{"reg_tokens": 4}, {"class_token": False, "global_pool": "avg"}])
def test_tokens_without_a_patch_are_not_counted(options: dict[str, Any], tmp_path: Path) -> None:
    model = load(stored(tmp_path, img_size=64, **options), **options)
    assert model.notes == ("64x64 input from the file's shapes",)


def test_a_file_without_head_gives_features(tmp_path: Path) -> None:
    model = load(stored(tmp_path, img_size=32, num_classes=0), img_size=32)
    assert model.num_classes == 0 and model(torch.rand(1, 3, 32, 32)).shape == (1, 24)
    assert model.notes == ("no head in the file (head.weight): features, no classes",)
    with pytest.raises(WeightsError, match=r"2 missing: head\.bias, head\.weight"):
        load(tmp_path / "w.safetensors", img_size=32, num_classes=5)


def test_a_head_of_another_name_is_known_by_what_timm_declares(tmp_path: Path) -> None:
    name = "swin_tiny_patch4_window7_224"
    small: dict[str, Any] = {"embed_dim": 12, "depths": (1, 1), "num_heads": (1, 2)}
    save_file(timm.create_model(name, num_classes=6, **small).state_dict(), tmp_path / "w.safetensors")
    model = SplitViT.load(name, weights=tmp_path / "w.safetensors", model_args=small)
    assert model.num_classes == 6 and model.notes == ("6 classes from the file's shapes",)


def test_heads_that_differ_are_refused(tmp_path: Path) -> None:
    state = timm.create_model(DISTILLED, **TINY, num_classes=5).state_dict()
    state |= {"head_dist.weight": torch.zeros(6, 24), "head_dist.bias": torch.zeros(6)}
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=r"head, head_dist of the file differ .*: \[5, 6\]"):
        load(tmp_path / "w.safetensors", DISTILLED)


def test_a_grid_that_is_no_square_must_be_given(tmp_path: Path) -> None:
    path = stored(tmp_path, img_size=(32, 64))
    with pytest.raises(WeightsError, match=r"has 32 patches, which form no square; .* img_size=\[224, 448\]"):
        load(path)
    assert load(path, img_size=[32, 64]).grid == (4, 8)


def test_another_size_is_resampled_as_timm_does_when_asked_for(tmp_path: Path) -> None:
    path = stored(tmp_path, img_size=32, num_classes=7)
    model = load(path, img_size=64)
    assert model.preprocessing.input_size == (64, 64) and model.num_classes == 7
    assert model.notes == (
        "7 classes from the file's shapes",
        "pos_embed (1, 17, 24) to (1, 65, 24): resampled by timm for img_size=64",
    )
    overlay = {"file": str(path), "num_classes": 7}  # the reference: timm's own way to a local file
    theirs = timm.create_model(NAME, pretrained=True, pretrained_cfg_overlay=overlay, **SMALL, img_size=64)
    ours = model.model.state_dict()
    assert all(torch.equal(value, ours[key]) for key, value in theirs.state_dict().items())


def test_patches_of_another_size_are_refused_or_asked_for(tmp_path: Path) -> None:
    path = stored(tmp_path, img_size=32)
    with pytest.raises(WeightsError, match=r"proj.weight \(expected \(24, 3, 16, 16\), got \(24, 3, 8, 8\)\)"):
        SplitViT.load(NAME, weights=path, model_args={"depth": 1, "embed_dim": 24, "num_heads": 3})
    model = load(path, img_size=32, patch_size=16)
    assert model.patch_size == (16, 16)
    assert "patch_embed.proj.weight (24, 3, 8, 8) to (24, 3, 16, 16)" in model.notes[0]


def test_other_classes_than_the_files_are_refused(tmp_path: Path) -> None:
    path = stored(tmp_path, img_size=32, num_classes=7)
    with pytest.raises(WeightsError, match=r"head\.bias \(expected \(5,\), got \(7,\)\)"):
        load(path, img_size=32, num_classes=5)


def test_names_that_timm_converts(tmp_path: Path) -> None:
    """A vision tower as OpenCLIP stores it, with the text tower beside it that timm leaves."""
    state = timm.create_model(NAME, **TINY, num_classes=0).state_dict()
    stored = {f"visual.trunk.{name}": value for name, value in state.items()} | {"text.weight": torch.ones(2)}
    torch.save(stored, tmp_path / "w.bin")
    model = load(tmp_path / "w.bin", img_size=32, num_classes=0)
    assert all(torch.equal(value, model.model.state_dict()[name]) for name, value in state.items())
    assert model.notes == ("names converted by timm's own reader",)
    with pytest.raises(WeightsError, match="does not hold the weights"):
        load(tmp_path / "w.bin", num_classes=0)  # 224 was not asked for: nothing is resampled in silence


def as_big_vision(model: torch.nn.Module) -> dict[str, Any]:
    """The state of a ViT of one block in the names and orders of big_vision's .npz files."""
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    heads, block = 3, "Transformer/encoderblock_0/"
    width = state["cls_token"].shape[-1]
    query, key, value = np.split(state["blocks.0.attn.qkv.weight"], 3)
    biases = np.split(state["blocks.0.attn.qkv.bias"], 3)
    arrays: dict[str, Any] = {
        "cls": state["cls_token"],
        "embedding/kernel": state["patch_embed.proj.weight"].transpose(2, 3, 1, 0),
        "embedding/bias": state["patch_embed.proj.bias"],
        "Transformer/posembed_input/pos_embedding": state["pos_embed"],
        "Transformer/encoder_norm/scale": state["norm.weight"],
        "Transformer/encoder_norm/bias": state["norm.bias"],
        "head/kernel": state["head.weight"].T,
        "head/bias": state["head.bias"],
    }
    attention = f"{block}MultiHeadDotProductAttention_1/"
    for part, weight, bias in zip(("query", "key", "value"), (query, key, value), biases, strict=True):
        arrays[f"{attention}{part}/kernel"] = weight.T.reshape(width, heads, -1)
        arrays[f"{attention}{part}/bias"] = bias.reshape(heads, -1)
    arrays[f"{attention}out/kernel"] = state["blocks.0.attn.proj.weight"].T.reshape(heads, -1, width)
    arrays[f"{attention}out/bias"] = state["blocks.0.attn.proj.bias"]
    for number, layer in ((0, "fc1"), (1, "fc2")):
        arrays[f"{block}MlpBlock_3/Dense_{number}/kernel"] = state[f"blocks.0.mlp.{layer}.weight"].T
        arrays[f"{block}MlpBlock_3/Dense_{number}/bias"] = state[f"blocks.0.mlp.{layer}.bias"]
    for number, layer in ((0, "norm1"), (2, "norm2")):
        arrays[f"{block}LayerNorm_{number}/scale"] = state[f"blocks.0.{layer}.weight"]
        arrays[f"{block}LayerNorm_{number}/bias"] = state[f"blocks.0.{layer}.bias"]
    return arrays


def test_big_visions_files_are_read_by_timms_loader(tmp_path: Path) -> None:
    model = timm.create_model(NAME, **SMALL, img_size=48, num_classes=7)
    arrays = as_big_vision(model)
    np.savez(tmp_path / "w.npz", **arrays)
    read = load(tmp_path / "w.npz")
    assert all(torch.equal(value, read.model.state_dict()[name]) for name, value in model.state_dict().items())
    assert read.notes == ("7 classes and 48x48 input from the file's shapes",)
    np.savez(tmp_path / "w.npz", **{name: array for name, array in arrays.items() if not name.endswith("norm/scale")})
    with pytest.raises(WeightsError, match=r"does not hold the weights of .* in big_vision's layout"):
        load(tmp_path / "w.npz")
    np.savez(tmp_path / "w.npz", a=np.zeros(2))
    with pytest.raises(WeightsError, match="in big_vision's layout"):
        load(tmp_path / "w.npz")
    np.savez(tmp_path / "w.npz", **arrays, hostile=np.array([object()]))
    assert load(tmp_path / "w.npz").num_classes == 7, "objects are never unpickled, and not needed"
