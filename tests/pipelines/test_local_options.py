"""URIs at every door that takes a path of this machine: refused in one line with the reason, and nothing is made."""

from __future__ import annotations

from pathlib import Path

import pytest

from nullspace.model.vit import SplitViT
from nullspace.noise.artifact import NullNoise
from nullspace.paths import RemotePathError, local_path
from nullspace.subspace.spectrum import SensitivitySpectrum
from pipelines.configs.reading import load_config
from pipelines.local_options import local_text
from pipelines.workflow.run import run_pipeline
from tests.pipelines.driver import nullspace

URI = "s3://key:secret@bucket/x"
SHOWN = "s3://***@bucket/x"
MARK = ("watermark", "embed", "in", "out", "--message", "m")
DOORS = {
    "config of run": ("run", URI),
    "work folder of run": ("run", "demo", "--workdir", URI),
    "weights in a config": ("run", "demo", "--set", f"models.0.weights={URI}"),
    "logo in a config": ("run", "demo", "--set", f"visible_watermark.logo={URI}"),
    "config to show": ("config", "show", URI),
    "weights of kernel": ("kernel", "deit_tiny_patch16_224", "--weights", URI),
    "output of a zoo": ("zoo", "deit*", "--random", "-o", URI),
    "work folder of status": ("status", URI),
    "work folder of ui": ("ui", URI),
    "config of submit": ("submit", URI, "--workdir", "/shared/x", "--dry-run"),
    "work folder of submit": ("submit", "demo", "--workdir", URI, "--dry-run"),
    "upload of submit": ("submit", "demo", "--workdir", "/shared/x", "--upload", URI, "--dry-run"),
    "weights of submit": ("submit", "demo", "--workdir", "/x", "--set", f"models.0.weights={URI}", "--dry-run"),
    "pictures to embed in": ("watermark", "embed", URI, "out", "--message", "m"),
    "output of embed": ("watermark", "embed", "in", URI, "--message", "m"),
    "weights of embed": (*MARK, "--weights", URI),
    "key of embed": (*MARK, "--key-file", URI),
    "pictures to detect in": ("watermark", "detect", URI),
    "key of detect": ("watermark", "detect", "in", "--key-file", URI),
    "pictures to mark": ("watermark", "visible", URI, "out", "--text", "T"),
    "output of visible": ("watermark", "visible", "in", URI, "--text", "T"),
    "logo of visible": ("watermark", "visible", "in", "out", "--logo", URI),
}


@pytest.mark.parametrize("door", DOORS)
def test_a_uri_is_refused_and_nothing_is_made(door: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    answer = nullspace(*DOORS[door])
    assert answer.is_one_error, answer
    assert f"expected a path of this machine, got the URI {SHOWN}; " in answer.err and "secret" not in answer.err
    assert list(tmp_path.iterdir()) == []


def test_the_library_refuses_them_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    doors = (
        lambda: load_config(URI),
        lambda: NullNoise.load(URI),
        lambda: SensitivitySpectrum.load(URI),
        lambda: SplitViT.load("deit_tiny_patch16_224", weights=URI),
        lambda: run_pipeline(load_config("demo"), Path("s3://bucket/x")),
    )
    for door in doors:
        with pytest.raises(RemotePathError, match="expected a path of this machine"):
            door()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ("runs/demo", "runs/demo"),
        ("/a b/c%20d", "/a b/c%20d"),
        ("C:/models/x.pth", "C:/models/x.pth"),
        ("file:///a%20b/c", "/a b/c"),
        ("file://localhost/c", "/c"),
        ("FILE:///c", "/c"),
        ("hf-hub:timm/x", "hf-hub:timm/x"),
    ],
)
def test_paths_stay_and_file_uris_become_paths(given: str, path: str) -> None:
    assert local_path(given, "--workdir") == Path(path)
    assert local_text(given, "--workdir") == path


@pytest.mark.parametrize(
    "given", ["gs://b/x", "https://h/x?sig=abc", "file://server/share", "simplecache::s3://b/x", Path("s3://b/x")]
)
def test_other_uris_are_refused(given: str | Path) -> None:
    with pytest.raises(RemotePathError, match="^x: expected a path of this machine") as caught:
        local_path(given, "x")
    assert "abc" not in str(caught.value)


def test_images_and_their_labels_may_be_uris() -> None:
    settings = load_config("deit_tiny", [f"source.path={URI}", "source.labels=s3://bucket/labels.csv"])
    assert (settings.source.path, settings.source.labels) == (URI, "s3://bucket/labels.csv")
