"""`nullspace watermark embed`, `detect` and `visible` on files, folders and patterns, as they are typed."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from nullspace.watermark.payload.hidden_mark import STRENGTHS
from pipelines.commands.messages import KEY_VARIABLE
from pipelines.commands.pictures.options import load_with_notes
from pipelines.digits import MODEL_NAME, register
from tests.nullspace.watermark.payload.marked import pictures
from tests.pipelines import icc
from tests.pipelines.commands.typed import typed, with_clear_corner

MODEL = ["--model", "vit_tiny_patch16_224", "--weights", "random"]
MESSAGE = "mine 2026"


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    """Run `nullspace watermark WORDS` with a key in the environment, in an empty folder."""
    monkeypatch.setenv(KEY_VARIABLE, "a key for tests only")
    monkeypatch.chdir(tmp_path)
    return partial(typed, monkeypatch, capsys, "watermark")


def image(height: int, width: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(pictures(1, 320, seed=seed)[0, :, :height, :width].permute(1, 2, 0).numpy())


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Odd sizes and modes, one in a subfolder."""
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    image(300, 231).save(folder / "one.jpg", quality=98)
    image(250, 320, seed=1).convert("L").save(folder / "grey.png")
    with_clear_corner(image(280, 280, seed=2), 40, 60).save(folder / "deep" / "clear.png")
    return folder


def test_a_folder_is_marked_and_read_back(call: Any, photos: Path, tmp_path: Path) -> None:
    answer = call("embed", photos, "marked", "--message", MESSAGE, "--psnr", 40, *MODEL, "--json")
    assert answer.code == 0, answer.err
    assert [Path(row["output"]).as_posix() for row in answer.rows] == [
        "marked/deep/clear.png", "marked/grey.png", "marked/one.png",
    ]  # fmt: skip
    for row in answer.rows:
        assert row["read_back"] and row["same_prediction"] and row["message_text"] == MESSAGE
        assert row["psnr"] >= 39.9 and row["token_change"] < 0.05
    found = call("detect", "marked", *MODEL, "--json")
    assert found.code == 0 and {row["message_text"] for row in found.rows} == {MESSAGE}
    assert all(row["p_value"] < 1e-9 and row["bit_agreement"] > 0.9 for row in found.rows)
    lines = [line for line in call("detect", "marked/*.png", *MODEL).out.splitlines() if line[0] != " "]  # no progress
    assert len(lines) == 2 and all(f"'{MESSAGE}'  p " in line and "bits as embedded" in line for line in lines)


def test_transparency_stays_as_it_was(call: Any, photos: Path) -> None:
    assert call("embed", photos / "deep", "marked", "--uuid", "new", "--psnr", 38, *MODEL).code == 0
    with Image.open(photos / "deep" / "clear.png") as before, Image.open("marked/clear.png") as after:
        ours, theirs = np.asarray(after), np.asarray(before)
    assert ours.shape == theirs.shape == (280, 280, 4) and (ours[..., 3] == theirs[..., 3]).all()
    hidden = theirs[..., 3] < 255
    assert (ours[hidden] == theirs[hidden]).all() and (ours[~hidden] != theirs[~hidden]).any()


def test_one_file_goes_to_one_file_in_the_format_of_its_name(call: Any, photos: Path) -> None:
    answer = call("embed", photos / "one.jpg", "out.jpg", "--hex", "c0ffee", "--psnr", 38, *MODEL, "--json")
    assert answer.code == 0 and answer.rows[0]["message_hex"] == "c0ffee" and answer.rows[0]["message_text"] is None
    with Image.open("out.jpg") as written:
        assert (written.format, written.size) == ("JPEG", (231, 300))


def test_unmarked_pictures_and_other_keys_have_exit_code_three(
    call: Any, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = call("detect", photos, *MODEL)
    assert answer.code == 3 and answer.out.count("no mark  p = ") == 3
    assert call("embed", photos / "one.jpg", "out.png", "--message", MESSAGE, *MODEL).code == 0
    monkeypatch.setenv(KEY_VARIABLE, "somebody else's key")
    assert call("detect", "out.png", *MODEL).code == 3


def test_moved_and_stretched_pictures_are_searched_on_request(call: Any, photos: Path) -> None:
    assert call("embed", photos / "one.jpg", "out.png", "--message", MESSAGE, "--psnr", 38, *MODEL).code == 0
    with Image.open("out.png") as marked:
        marked.crop((0, 0, 231, 288)).save("cut.png")  # the middle is six pixels further up
        marked.resize((236, 307), Image.Resampling.BICUBIC).crop((2, 3, 233, 303)).save("long.png")  # two per cent
    known = ["--length", len(MESSAGE), *MODEL, "--json"]
    assert call("detect", "cut.png", "long.png", *known).code == 3
    moved, stretched = (
        call("detect", "cut.png", "--shift", 7, *known),
        call("detect", "long.png", "--shift", 1, "--stretch", 3, *known),
    )
    for found in (moved, stretched):
        assert found.code == 0 and found.rows[0]["message_text"] == MESSAGE and found.rows[0]["p_value"] < 1e-9
    # What is moved a little may be read where it is; what is not was searched for, and every reading counts.
    assert max(found.rows[0]["readings_tried"] for found in (moved, stretched)) >= 9 * 13 * len(STRENGTHS)


def test_a_file_that_is_no_picture_is_reported_and_the_others_are_marked(call: Any, photos: Path) -> None:
    (photos / "broken.png").write_bytes((photos / "grey.png").read_bytes()[:900])
    answer = call("embed", photos, "marked", "--message", MESSAGE, *MODEL)
    assert answer.code == 4 and "broken.png  error: " in answer.out and "damaged or truncated" in answer.out
    assert sorted(path.name for path in Path("marked").rglob("*.png")) == ["clear.png", "grey.png", "one.png"]


def test_animations_are_refused_and_unusable_profiles_noted(call: Any, photos: Path) -> None:
    frames = [image(240, 240, seed=seed) for seed in (4, 5)]
    frames[0].save(photos / "moving.gif", save_all=True, append_images=frames[1:])
    exif = Image.Exif()
    exif[0x0112], exif[0x8298] = 6, "(c) me"
    odd = {"exif": exif, "dpi": (300, 300), "icc_profile": icc.without_curves(b"CMYK", b"prtr")}
    image(231, 300, seed=6).convert("CMYK").save(photos / "odd.jpg", quality=95, **odd)
    answer = call("embed", photos / "moving.gif", photos / "odd.jpg", "marked", "--message", MESSAGE, *MODEL)
    assert answer.code == 4 and "moving.gif  error: it has 2 frames or pages" in answer.out
    assert "  note: its colour profile cannot be used (cannot build transform)" in answer.out
    with Image.open("marked/odd.png") as written:
        assert written.size == (231, 300) and "icc_profile" not in written.info
        assert written.getexif()[0x8298] == "(c) me" and written.getexif()[0x0112] == 1
        assert written.info["dpi"][0] == pytest.approx(300, abs=0.01)
    found = call("detect", "marked/odd.png", *MODEL, "--json")
    assert found.code == 0 and found.rows[0]["notes"] == [] and found.rows[0]["message_text"] == MESSAGE


def test_a_visible_mark_is_seen_by_people_alone(call: Any, photos: Path) -> None:
    answer = call("visible", photos / "grey.png", photos / "one.jpg", "marked", "--text", "DRAFT", *MODEL, "--json")
    assert answer.code == 0, answer.err
    for row in answer.rows:
        assert row["same_prediction"] and row["token_change"] < 0.1 and row["probability_change"] < 0.02
        assert set(row["after_jpeg"]) == {"95", "90", "75"}
        assert row["texture_contrast"] > row["clean_texture_contrast"] + 0.2 and 5 < row["psnr"] < 40
    assert "DRAFT" not in call("visible", photos / "one.jpg", "again", "--text", "DRAFT", *MODEL).err
    refused = call("visible", photos / "deep", "marked", "--text", "DRAFT", *MODEL)
    assert refused.code == 4 and "transparent parts" in refused.out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["embed", "photos", "marked", *MODEL], "expected one of --message, --hex and --uuid, got none"),
        (["embed", "photos", "marked", "--hex", "xyz", *MODEL], "pairs of hexadecimal digits, got 'xyz'"),
        (["embed", "photos", "marked", "--uuid", "1", *MODEL], "expected a UUID, or `new`, got '1'"),
        (["embed", "photos", "--message", "m", *MODEL], "got only photos"),
        (["embed", "nowhere", "marked", "--message", "m", *MODEL], "nowhere: found no picture there"),
        (["embed", "photos", "photos", "--message", "m", "--format", "same", *MODEL], "overwritten by its own marked"),
        (["embed", "photos", "out", "--message", "m", "--format", "gif", *MODEL], "ends in .png, .bmp"),
        (["embed", "photos", "out", "--message", "m" * 33, *MODEL], "1 to 32 bytes, got 33"),
        (["embed", "photos/one.jpg", "photos/grey.png", "--message", "m", *MODEL], "exists already.*--force"),
        (["visible", "photos", "out", *MODEL], "one of --text and --logo, got neither"),
        (["visible", "photos", "out", "--text", "A", "--position", "nose", *MODEL], "--position: .*got 'nose'"),
        (["detect", "photos", "--key-file", "none.txt", *MODEL], "cannot read the key from none.txt"),
    ],
)
def test_bad_input_is_one_line(call: Any, photos: Path, words: list[str], expected: str) -> None:
    found = call(*words)
    assert found.code == 1 and found.out == "" and found.err.startswith("error: ") and len(found.err.splitlines()) == 1
    assert re.search(expected, found.err), found.err


def test_a_missing_key_says_how_to_make_one(call: Any, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_VARIABLE)
    assert "openssl rand -hex 32 > key.txt" in call("detect", photos, *MODEL).err
    Path("key.txt").write_text("a key for tests only\n")
    assert call("detect", photos / "one.jpg", "--key-file", "key.txt", *MODEL).code == 3


def test_a_key_is_asked_for_before_torch_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    (tmp_path / "short.txt").write_text("1234567\n")
    commands = [["detect", "IN"], ["embed", "IN", "OUT", "--message", "x", "--key-file", str(tmp_path / "short.txt")]]
    program = "import sys; from cluster.cli import main; sys.argv = ['nullspace', 'watermark', *sys.argv[1:]]\n"
    program += "try:\n main()\nfinally:\n print('torch' in sys.modules)"
    for words, expected in zip(commands, ("error: expected a key", "at least 8 bytes, got 7"), strict=True):
        done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (1, "False\n") and expected in done.stderr, done.stderr
        assert "openssl rand -hex 32 > key.txt" in done.stderr


def test_progress_lines_have_the_name_of_the_command(call: Any, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.engine.progress._SECONDS_BETWEEN_LINES", 0)
    assert "  detect: 1/1 pictures in " in call("detect", photos / "one.jpg", *MODEL).out


def test_the_notes_on_the_model_are_on_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    register()
    made = timm.create_model(MODEL_NAME, num_classes=7, global_pool="avg").state_dict()
    other = {name: value + 1 for name, value in made.items()}
    torch.save({"model": other, "model_ema": made}, tmp_path / "w.bin")
    taken = load_with_notes(MODEL_NAME, str(tmp_path / "w.bin"), ["global_pool=avg"], ema=True)
    assert torch.equal(taken.model.state_dict()["head.bias"], made["head.bias"])
    printed = capsys.readouterr()
    assert (
        printed.err == f"model  file:{tmp_path / 'w.bin'} (EMA); 7 classes from the file's shapes\n" and not printed.out
    )
    plain = load_with_notes(MODEL_NAME, str(tmp_path / "w.bin"), ["global_pool=avg", "num_classes=7"], ema=False)
    assert torch.equal(plain.model.state_dict()["head.bias"], other["head.bias"])
    assert capsys.readouterr().err == f"model  file:{tmp_path / 'w.bin'} (without EMA)\n"


@pytest.mark.parametrize("command", [("detect", "photos"), ("embed", "photos", "out", "--message", "x")])
def test_a_wrong_model_argument_is_one_line(call, photos: Path, command: tuple[str, ...]) -> None:
    answer = call(*command, *MODEL, "--model-args", "colour=red")
    assert (
        answer.code == 1
        and answer.err.startswith("error: ")
        and "'colour'" in answer.err
        and answer.err.count("\n") == 1
    )
