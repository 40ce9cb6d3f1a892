"""Weights: from a file, random, or pretrained; every way they can be wrong has its own words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from nullspace.errors import NullspaceError, UnknownModelError, WeightsError
from nullspace.model.vit import SplitViT
from nullspace.model.weights import build_model, require_known, weights_hash

NAME = "vit_tiny_patch16_224"
TINY: dict[str, Any] = {"depth": 1, "embed_dim": 24, "num_heads": 3, "img_size": 32, "patch_size": 8, "num_classes": 10}


@pytest.fixture(scope="module")
def reference() -> torch.nn.Module:
    return build_model(NAME, weights="random", seed=7, model_args=TINY)[0]


def as_safetensors(state: dict[str, torch.Tensor], folder: Path) -> Path:
    save_file(state, folder / "weights.safetensors")
    return folder / "weights.safetensors"


def as_pth(content: Any, folder: Path, suffix: str = ".pth") -> Path:
    torch.save(content, folder / f"weights{suffix}")
    return folder / f"weights{suffix}"


@pytest.mark.parametrize("form", ["safetensors", "pth", "pt", "model", "state_dict", "parallel"])
def test_the_same_weights_from_any_file_have_the_same_hash(
    form: str, reference: torch.nn.Module, tmp_path: Path
) -> None:
    state = dict(reference.state_dict())
    path = {
        "safetensors": lambda: as_safetensors(state, tmp_path),
        "pth": lambda: as_pth(state, tmp_path),
        "pt": lambda: as_pth(state, tmp_path, ".pt"),
        "model": lambda: as_pth({"model": state, "epoch": 3}, tmp_path),
        "state_dict": lambda: as_pth({"state_dict": state}, tmp_path),
        "parallel": lambda: as_pth({f"module.{name}": value for name, value in state.items()}, tmp_path),
    }[form]()
    model = SplitViT.load(NAME, weights=path, model_args=TINY)
    assert model.weights_sha256 == weights_hash(reference)
    assert model.weights_source == f"file:{path}"
    assert all(torch.equal(value, state[name]) for name, value in model.model.state_dict().items())


def test_random_weights_follow_the_seed_and_leave_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first, again, other = (SplitViT.load(NAME, weights="random", seed=s, model_args=TINY) for s in (3, 3, 4))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert first.weights_sha256 == again.weights_sha256 != other.weights_sha256
    assert (first.weights_source, other.weights_source) == ("random:3", "random:4")


@pytest.mark.parametrize(
    "change",
    [lambda t: t + 1e-6, lambda t: t.to(torch.float16), lambda t: t.T.contiguous()],
    ids=["value", "dtype", "shape"],
)
def test_the_hash_sees_values_dtypes_and_shapes(change: Any) -> None:
    model = torch.nn.Linear(4, 3)
    before = weights_hash(model)
    assert weights_hash(model) == before
    model.weight = torch.nn.Parameter(change(model.weight.detach()))
    assert weights_hash(model) != before


@pytest.mark.parametrize(
    "name", ["vit_tiny_patch16_224", "vit_tiny_patch16_224.augreg_in21k", "swin_tiny_patch4_window7_224"]
)
def test_known_names_with_and_without_tag(name: str) -> None:
    assert require_known(name) is None


@pytest.mark.parametrize(
    ("name", "offer"),
    [
        ("vit_tiny_patch16_24", "did you mean vit_tiny_patch16_224"),
        ("deit_tinny", "did you mean deit_tiny_"),
        ("deit_tinny_patch16_224", "deit_tiny_patch16_224"),
        (
            "vit_tiny_patch16_224.augreg_in2k",
            "no pretrained tag 'augreg_in2k'; did you mean vit_tiny_patch16_224.augreg",
        ),
        ("?", "list_models"),
    ],
)
def test_an_unknown_name_offers_the_nearest(name: str, offer: str) -> None:
    with pytest.raises(UnknownModelError, match=offer.replace("?", r"\?")):
        SplitViT.load(name, weights="random")


def without(state: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in state.items() if key != name}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda state: without(state, "pos_embed"), "1 missing: pos_embed"),
        (lambda state: {**state, "extra.weight": torch.zeros(1)}, "1 unexpected: extra.weight"),
        (
            lambda state: {**state, "head.bias": torch.zeros(4)},
            r"1 of another shape: head.bias \(expected \(10,\), got \(4,\)\)",
        ),
        (lambda state: {"a": torch.zeros(1)}, r"missing: .*, …; 1 unexpected: a"),
    ],
    ids=["missing", "unexpected", "shape", "foreign"],
)
def test_weights_of_another_model_are_named(change: Any, why: str, reference: torch.nn.Module, tmp_path: Path) -> None:
    path = as_safetensors(change(dict(reference.state_dict())), tmp_path)
    with pytest.raises(WeightsError, match=why):
        SplitViT.load(NAME, weights=path, model_args=TINY)


class Code:
    """What a hostile file would hold: unpickling calls it."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (exec, ("raise SystemExit('code from a weights file was run')",))


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
def test_a_truncated_file_is_damaged(suffix: str, reference: torch.nn.Module, tmp_path: Path) -> None:
    state = dict(reference.state_dict())
    path = as_safetensors(state, tmp_path) if suffix == ".safetensors" else as_pth(state, tmp_path, suffix)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(WeightsError, match=r"not a readable safetensors|is damaged: a zip"):
        SplitViT.load(NAME, weights=path, model_args=TINY)


@pytest.mark.parametrize("content", [b"", b"not weights at all", b"\x80\x02garbage"], ids=["empty", "text", "garbage"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_of_something_else_is_damaged(suffix: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"weights\.(pth|safetensors)"):
        SplitViT.load(NAME, weights=path, model_args=TINY)


def test_code_in_a_file_is_never_run(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="which are never loaded"):
        SplitViT.load(NAME, weights=as_pth({"model": Code()}, tmp_path), model_args=TINY)


@pytest.mark.parametrize("content", [[1, 2], {"model": {}}, {"epoch": 3}], ids=["list", "empty", "number"])
def test_a_file_without_state_dict_says_so(content: Any, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="to hold a state dict"):
        SplitViT.load(NAME, weights=as_pth(content, tmp_path), model_args=TINY)


def test_a_missing_file_or_a_folder(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="which is no file; check the path"):
        SplitViT.load(NAME, weights=tmp_path / "none.safetensors")
    with pytest.raises(WeightsError, match=f"is a folder: .* a model by itself, named local-dir:{tmp_path}"):
        SplitViT.load(NAME, weights=tmp_path)


def test_pretrained_without_network_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: Any, **__: Any) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(WeightsError, match=r"no route to host\); give a weights file .* or 'random' instead"):
        SplitViT.load(NAME)


def test_pretrained_of_a_model_that_has_none() -> None:
    with pytest.raises(WeightsError, match=r"No pretrained weights exist .* or 'random' instead"):
        SplitViT.load("vit_base_patch16_gap_224", model_args={"depth": 1, "embed_dim": 24, "num_heads": 3})


def test_unknown_model_arguments_are_refused() -> None:
    with pytest.raises(NullspaceError, match=r"does not take these model arguments: .*'colour'"):
        SplitViT.load(NAME, weights="random", model_args={"colour": "red"})


@pytest.mark.real
def test_real_weights_load_strictly(assets: Path) -> None:
    path = assets / "deit_tiny_patch16_224" / "model.safetensors"
    model = SplitViT.load("deit_tiny_patch16_224", weights=path)
    assert model.weights_source == f"file:{path}" and model.num_classes == 1000
    with pytest.raises(WeightsError, match=r"head\.weight"):
        SplitViT.load("vit_tiny_patch16_224", weights=path, model_args={"num_classes": 10})
