"""`nullspace fool` on files, as it is typed."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.digits import MODEL_NAME
from tests.pipelines import tiny
from tests.pipelines.commands.typed import typed, with_clear_corner

DIGITS = ["--model", MODEL_NAME]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    """Run `nullspace fool WORDS` in an empty folder: exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)
    return partial(typed, monkeypatch, capsys, "fool")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two digits of different classes: at the model's size, and larger with a transparent corner."""
    digits = tiny.digits()
    first = 0
    second = next(at for at, label in enumerate(digits.labels) if label != digits.labels[first])
    one, other = (Image.fromarray(digits.images[at]) for at in (first, second))
    one.save(tmp_path / "one.png")
    large = other.resize((90, 104), Image.Resampling.BICUBIC)
    with_clear_corner(large, 9, 11).save(tmp_path / "other.png")
    return tmp_path


def pixels(file: Path) -> np.ndarray:
    return np.asarray(Image.open(file).convert("RGBA")).astype(int)


def test_the_file_looks_like_the_other_and_is_taken_for_the_image(call, photos: Path) -> None:
    code, out, err = call("one.png", "--like", "other.png", *DIGITS, "--epsilon", 48, "--json")
    assert code == 0, err
    row = json.loads(out)
    assert row["output"] == "one-fooled.png" and row["size"] == [90, 104] and row["taken_for"] == "image"
    assert row["fooled"][0]["class"] == row["image"][0]["class"] != row["look"][0]["class"]
    assert row["permuted"][0]["class"] == row["look"][0]["class"] and row["relative_logits"] < 0.2
    written, look = pixels(photos / "one-fooled.png"), pixels(photos / "other.png")
    assert row["largest_change"] <= 48 and (written[..., 3] == look[..., 3]).all()
    opaque = look[..., 3] == 255
    assert np.abs(written - look)[opaque].max() == row["largest_change"] and (written == look)[~opaque].all()


def test_exactly_no_output_changes_and_the_file_has_the_images_size(call, photos: Path) -> None:
    code, out, err = call("one.png", "--like", "other.png", *DIGITS, "--exact", "-o", "exact.png", "--json")
    assert code == 0, err
    row = json.loads(out)
    assert row["method"] == "exact" and row["passes"] == 0 and row["size"] == [64, 64]
    assert row["taken_for"] == "image" and row["relative_logits"] < 1e-4
    probabilities = [[each["probability"] for each in row[name]] for name in ("image", "fooled")]
    assert probabilities[0] == pytest.approx(probabilities[1], abs=0.01)
    assert row["largest_change"] > 20


@pytest.mark.parametrize("look", ["grey", "noise"])
def test_looks_of_nothing_and_the_table(call, photos: Path, look: str) -> None:
    code, out, err = call("one.png", "--like", look, *DIGITS, "-o", "out.png", "--seed", 3)
    assert code == 0, err
    assert "taken for the image" in out and f"as {look}  out.png  64×64" in out
    assert [line[2:11].strip() for line in out.splitlines()[1:8]] == [
        "the image", "the look", "fooled", "permuted", "verdict", "logits", "pixels",
    ]  # fmt: skip
    again = pixels(photos / "out.png")
    assert call("one.png", "--like", look, *DIGITS, "-o", "out.png", "--seed", 3, "--force")[0] == 0
    assert (pixels(photos / "out.png") == again).all()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--like", "nothing.png"], "--like nothing.png: expected a picture file, grey or noise"),
        (["--like", "other.png", "-o", "out.jpg"], "expected a name that ends in .png"),
        (["--like", "other.png", "-o", "other.png"], "would be overwritten"),
        (["--like", "other.png", "--exact", "--epsilon", "4"], "leave --epsilon and --at out"),
        (["--like", "other.png", "--at", "head"], "--at head: expected logits, features, tokens or block:N"),
        (["--like", "other.png", "--at", "block:99"], "expected a block below"),
        (["--like", "other.png", "-o", "there.png"], "there.png exists already; add --force"),
    ],
)
def test_wrong_options_are_refused_in_one_line(call, photos: Path, words: list[str], message: str) -> None:
    (photos / "there.png").write_bytes(b"")
    code, out, err = call("one.png", *words, *DIGITS)
    assert code != 0 and message in " ".join(err.split()) and "Traceback" not in err and not out


def test_an_unreadable_picture_is_named(call, photos: Path) -> None:
    (photos / "broken.png").write_bytes(b"no picture")
    code, _, err = call("broken.png", "--like", "grey", *DIGITS)
    assert code != 0 and "broken.png" in err and "Traceback" not in err
