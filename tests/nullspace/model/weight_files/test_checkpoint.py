"""Checkpoints in the wrappings of training programs: the same weights as timm's own reader finds, and no code run."""

from __future__ import annotations

import argparse
import collections
import datetime
import gzip
import io
import pathlib
import pickle
import tarfile
import types
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from timm.models import load_state_dict

from nullspace.errors import WeightsError
from nullspace.model.vit import SplitViT
from nullspace.model.weights import build_model, weights_hash

NAME = "vit_tiny_patch16_224"
TINY: dict[str, Any] = {"depth": 1, "embed_dim": 24, "num_heads": 3, "img_size": 32, "patch_size": 8, "num_classes": 10}
State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def state() -> State:
    return dict(build_model(NAME, weights="random", seed=7, model_args=TINY).model.state_dict())


def other(state: State) -> State:
    return {name: value + 0.02 for name, value in state.items()}


def prefixed(prefix: str, state: State) -> State:
    return {f"{prefix}{name}": value for name, value in state.items()}


def load(path: Path, **given: Any) -> SplitViT:
    return SplitViT.load(NAME, weights=path, model_args=TINY, verify=False, **given)


def is_same(model: SplitViT, state: State) -> bool:
    return all(torch.equal(value, state[name]) for name, value in model.model.state_dict().items())


WRAPPINGS: dict[str, Callable[[State], Any]] = {
    "model_best.pth.tar": lambda s: {"epoch": 3, "arch": NAME, "state_dict": s},
    "pytorch_model.bin": lambda s: s,
    "run.ckpt": lambda s: {"state_dict": s},
    "no_ending": lambda s: {"model": s},
    "weights.safetensors": lambda s: s,  # a PyTorch file, whatever its name says
    "compiled.pth": lambda s: prefixed("_orig_mod.", s),
    "parallel.pth": lambda s: prefixed("module.", s),
    "compiled_parallel.pth": lambda s: prefixed("_orig_mod.module.", s),
    "parallel_compiled.pth": lambda s: {"model": prefixed("module._orig_mod.", s)},
    "lightning.ckpt": lambda s: {"state_dict": prefixed("model.", s), "pytorch-lightning_version": "2.5"},
    "backbone.pth": lambda s: prefixed("module.backbone.", s),
    "tutorial.pth": lambda s: {"epoch": 1, "model_state_dict": s, "optimizer_state_dict": {"state": {}}},
    "nested.pth": lambda s: {"model": {"state_dict": s}},
    "parameters.pth": lambda s: {name: torch.nn.Parameter(value) for name, value in s.items()},
    "ema.pth": lambda s: {"state_dict": other(s), "state_dict_ema": s},
    "model_ema.pth": lambda s: {"model": other(s), "model_ema": s},
    "both_ema.pth": lambda s: {"model": other(s), "model_ema": other(s), "state_dict_ema": s},
    "no_ema_yet.pth": lambda s: {"state_dict": s, "state_dict_ema": None},
}
OURS_ALONE = ("weights.safetensors", "lightning.ckpt", "backbone.pth", "tutorial.pth", "nested.pth")


@pytest.mark.parametrize("name", WRAPPINGS)
def test_the_weights_in_every_wrapping(name: str, state: State, tmp_path: Path) -> None:
    torch.save(WRAPPINGS[name](state), tmp_path / name)
    model = load(tmp_path / name)
    assert is_same(model, state)
    marked = " (EMA)" if name in ("ema.pth", "model_ema.pth", "both_ema.pth") else ""
    assert model.weights_source == f"file:{tmp_path / name}{marked}" and model.notes == ()
    if name not in OURS_ALONE:  # the reference: what timm's own reader gives
        timms = load_state_dict(str(tmp_path / name))
        assert timms.keys() == state.keys() and all(torch.equal(timms[key], state[key]) for key in state)


@pytest.mark.parametrize("name", ["ema.pth", "model_ema.pth", "run.ckpt"])
def test_the_other_set_on_request(name: str, state: State, tmp_path: Path) -> None:
    torch.save(WRAPPINGS[name](state), tmp_path / name)
    model, both = load(tmp_path / name, ema=False), name != "run.ckpt"
    assert is_same(model, other(state) if both else state)
    assert model.weights_source == f"file:{tmp_path / name}" + " (without EMA)" * both
    timms = load_state_dict(str(tmp_path / name), use_ema=False)
    assert all(torch.equal(timms[key], value) for key, value in model.model.state_dict().items())


def test_ema_weights_alone_are_not_taken_for_others(state: State, tmp_path: Path) -> None:
    torch.save({"model_ema": state}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"holds EMA weights alone \(model_ema\), and they were not asked for"):
        load(tmp_path / "w.pth", ema=False)


def test_safetensors_are_known_by_their_content(state: State, tmp_path: Path) -> None:
    save_file(prefixed("_orig_mod.", state), tmp_path / "w.pth")
    assert is_same(load(tmp_path / "w.pth"), state)


def test_files_of_old_pytorch(state: State, tmp_path: Path) -> None:
    torch.save({"state_dict": state}, tmp_path / "w.bin", _use_new_zipfile_serialization=False)
    assert is_same(load(tmp_path / "w.bin"), state)


BESIDE: dict[str, Any] = {
    "namespace": argparse.Namespace(model=NAME, lr=1e-3, out=pathlib.PurePosixPath("/out")),
    "simple namespace": types.SimpleNamespace(lr=1e-3),
    "path": pathlib.Path("/data"),
    "date": datetime.datetime(2024, 1, 2, tzinfo=datetime.UTC).replace(tzinfo=None),
    "numpy scalar": {"best": np.float64(81.5), "count": np.int64(3), "half": np.float32(0.5)},
    "numpy array": np.arange(6.0).reshape(2, 3),
    "defaultdict": collections.defaultdict(list, {"loss": [1.0, 0.5]}),
    "counter": collections.Counter("abc"),
}


@pytest.mark.parametrize("old", [False, True], ids=["zip", "old"])
@pytest.mark.parametrize("beside", BESIDE)
def test_what_training_stores_beside_the_weights(beside: str, old: bool, state: State, tmp_path: Path) -> None:
    content = {"args": BESIDE[beside], "state_dict": state}
    torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=not old)
    assert is_same(load(tmp_path / "w.pth"), state)


class Code:
    """What a hostile file would hold: unpickling calls it."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.stderr = (function, arguments)

    def __reduce__(self) -> Any:
        return self.stderr


RUNS = "raise SystemExit('code from a weights file was run')"


@pytest.mark.parametrize("old", [False, True], ids=["zip", "old"])
@pytest.mark.parametrize(
    ("code", "named"),
    [
        (Code(exec, RUNS), "exec"),
        (Code(eval, "__import__('os')._exit(3)"), "eval"),
        (Code(pathlib.Path.unlink, pathlib.Path("/nowhere")), ""),
        (Code(getattr, argparse.Namespace, "__init__"), "getattr"),
        (Code(pickle.loads, pickle.dumps(Code(exec, RUNS))), "pickle.loads"),
        (Code(__import__, "subprocess"), "__import__"),
    ],
    ids=["exec", "eval", "method", "getattr", "loads", "import"],
)
def test_code_beside_good_weights_is_refused_by_name(
    code: Code, named: str, old: bool, state: State, tmp_path: Path
) -> None:
    content = {"args": code, "state_dict": state}
    torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=not old)
    with pytest.raises(WeightsError, match=f"code or objects.*{named}.*which are never loaded"):
        load(tmp_path / "w.pth")


def test_a_whole_model_is_refused(state: State, tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"objects \(torch.nn.modules.linear.Linear\), which are never"):
        load(tmp_path / "w.pth")


def packed(name: str, content: bytes = b"x") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


def tarred() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("storages"))
    return buffer.getvalue()


FOREIGN = {
    "empty": (b"", "is empty"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "Git LFS pointer.*git lfs pull"),
    "html": (b"\n<!DOCTYPE html><html>Not found</html>", "a web page.*fetch the file itself"),
    "gzip": (gzip.compress(b"x"), "compressed with gzip.*gunzip"),
    "xz": (b"\xfd7zXZ\x00", "compressed with xz"),
    "hdf5": (b"\x89HDF\r\n\x1a\n", "HDF5, as Keras writes it"),
    "json": (b'{"weight_map": {}}', "JSON text, such as an index"),
    "tar": (tarred(), "a tar archive"),
    "onnx": (b"\x08\x07\x12\x07pytorch\x1a\x052.0.0", "is ONNX"),
    "npy": (b"\x93NUMPY\x01\x00", "a single numpy array"),
    "torchscript": (packed("m/constants.pkl"), "TorchScript, a program, and is never loaded"),
    "zip": (packed("model.keras"), "a zip archive but no PyTorch checkpoint"),
    "text": (b"not weights at all", "in no known format"),
}


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_the_error_names_the_kind_of_a_file_that_holds_no_weights(kind: str, ending: str, tmp_path: Path) -> None:
    content, message = FOREIGN[kind]
    (tmp_path / f"w{ending}").write_bytes(content)
    with pytest.raises(WeightsError, match=rf"w{ending} .*{message}") as refused:
        load(tmp_path / f"w{ending}")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda s: {"epoch": 3, "teacher": s, "student": s}, "got 3 of 3 that are no tensors: epoch, teacher, student"),
        (lambda s: {**s, "epoch": 3}, "that are no tensors: epoch; save the state dict alone"),
        (lambda s: {**s, "module.head.bias": s["head.bias"]}, "holds weights twice, with and without the prefix"),
        (
            lambda s: {**s, "criterion.weight": torch.ones(3)},
            "1 unexpected: criterion.weight. All of the model",
        ),
        (lambda s: {**prefixed("model.", s), "loss.w": torch.ones(3)}, ": 1 unexpected: loss.w. All of the model is"),
        (lambda s: {**s, "blocks.0.total_ops": torch.zeros(1)}, "1 unexpected: blocks.0.total_ops"),
        (
            lambda s: {**{k: v for k, v in s.items() if not k.startswith("head.")}, "fc.weight": s["head.weight"]},
            r"2 missing: head.bias, head.weight; 1 unexpected: fc.weight. Give the model name",
        ),
    ],
    ids=["sets", "number", "twice", "loss", "wrapped loss", "thop", "foreign head"],
)
def test_nothing_in_a_file_is_dropped_in_silence(content: Any, message: str, state: State, tmp_path: Path) -> None:
    torch.save(content(state), tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=message):
        load(tmp_path / "w.pth")


def test_the_hash_is_of_the_weights_not_of_their_wrapping(state: State, tmp_path: Path) -> None:
    torch.save({"state_dict_ema": prefixed("module.", state)}, tmp_path / "w.pth")
    model = load(tmp_path / "w.pth")
    assert model.weights_sha256 == weights_hash(model.model)
