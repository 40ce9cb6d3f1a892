"""`nullspace show` on files, as it is typed, and the changes of files it makes."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from nullspace.kernel.file_kernel import FileKernel, kernel_on_file
from nullspace.kernel.shift import exact_kernel
from nullspace.metrics.draws import Draws
from nullspace.model.vit import SplitViT
from pipelines.commands.show.noise import kernel_noise, permuted_noise, size_of, strongest_noise
from pipelines.commands.show.views import centred
from pipelines.digits import MODEL_NAME
from pipelines.engine.models import load_model
from tests.nullspace.watermark.payload.marked import pictures
from tests.pipelines import tiny
from tests.pipelines.commands.typed import typed, with_clear_corner

DIGITS = ["--model", MODEL_NAME]


@pytest.fixture(scope="module")
def model() -> SplitViT:
    return load_model(MODEL_NAME, "pretrained", seed=0, device="cpu")


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    """Run `nullspace show WORDS` in an empty folder: exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)
    return partial(typed, monkeypatch, capsys, "show")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Digits at the model's size, larger, and with a transparent corner."""
    folder = tmp_path / "photos"
    folder.mkdir()
    first, second = (Image.fromarray(each) for each in tiny.digits().images[:2])
    first.save(folder / "exact.png")
    second.resize((90, 104), Image.Resampling.BICUBIC).save(folder / "larger.png")
    with_clear_corner(second, 9, 11).save(folder / "clear.png")
    return folder


def on_file(model: SplitViT, height: int, width: int) -> tuple[FileKernel, Tensor, Tensor]:
    """The kernel of such files, one in [0,1], and where it is read."""
    kernel = kernel_on_file(model, (height, width), kernel=exact_kernel(model))
    clean = pictures(1, 128)[0, :, :height, :width].double() / 255
    return kernel, 0.1 + 0.8 * clean, kernel.resize.read


@pytest.mark.parametrize("size", [(64, 64), (82, 100)])
def test_noise_is_of_the_kernel_of_the_size_asked_for_and_in_range(model: SplitViT, size: tuple[int, int]) -> None:
    kernel, clean, free = on_file(model, *size)
    generator = torch.Generator().manual_seed(0)
    change = kernel_noise(kernel, clean, free, rms=0.1, generator=generator)
    assert size_of(change, free) == pytest.approx(0.1, rel=0.02)
    assert float((clean + change).min()) >= 0 and float((clean + change).max()) <= 1
    assert float(kernel.seen(change[None]).norm()) < 0.01 * float(change.norm())
    assert not change[:, ~free].any()
    largest = strongest_noise(kernel, clean, free, generator=generator)
    assert size_of(largest, free) > 2 * size_of(change, free)
    assert float((clean + largest).min()) >= -1e-9 and float((clean + largest).max()) <= 1 + 1e-9
    assert float(kernel.seen(largest[None]).norm()) < 0.02 * float(largest.norm())


def test_the_control_has_the_same_norm_and_no_structure(model: SplitViT) -> None:
    kernel, clean, free = on_file(model, 41, 50)
    generator = torch.Generator().manual_seed(0)
    change = kernel_noise(kernel, clean, free, rms=0.2, generator=generator)
    control = permuted_noise(change, clean, free, draws=Draws(0, "permuted", ["a"]))
    assert float(control.norm()) == pytest.approx(float(change.norm()), rel=1e-6)
    assert float(kernel.seen(control[None]).norm()) > 20 * float(kernel.seen(change[None]).norm())
    white = torch.ones_like(clean)  # half of it is cut off, and made up for
    below = -change.abs()
    cut = permuted_noise(change, white, free, draws=Draws(0, "permuted", ["a"]))
    assert float(cut.norm()) == pytest.approx(float(below.norm()), rel=1e-6) and float(cut.max()) <= 0


def test_noise_is_drawn_around_grey() -> None:
    change = torch.zeros(3, 4, 4)
    change[0, 0, 0], change[0, 0, 1] = 0.1, -0.1
    drawn, scale = centred(change)
    assert scale == 5 and drawn[0, 0, :3].tolist() == [255, 0, 128]
    assert centred(torch.zeros(3, 2, 2))[0].unique().tolist() == [128]


def test_a_folder_is_shown_and_figures_are_measured_on_the_files(call: Any, photos: Path, model: SplitViT) -> None:
    code, out, err = call(photos, *DIGITS, "-o", "pages", "--json")
    assert code == 0, err
    rows = json.loads(out)
    assert [Path(row["page"]).name for row in rows] == [
        f"{name}-nullspace.png" for name in ("clear", "exact", "larger")
    ]
    for row in rows:
        before, noised, permuted = (row[name] for name in ("picture", "noised", "permuted"))
        assert noised["same_prediction"] and noised["token_change"] < 0.02 < 5 * noised["token_change"] + 0.1
        assert permuted["token_change"] > 10 * noised["token_change"]
        assert permuted["rms"] == pytest.approx(noised["rms"], rel=0.02) and noised["rms"] > 0.05
        assert [each["name"] for each in before["top"]] == [str(each["class"]) for each in before["top"]]
        assert noised["top"][0]["probability"] == pytest.approx(before["top"][0]["probability"], abs=0.02)
        with Image.open(row["noised_file"]) as written, Image.open(row["page"]) as page:
            assert list(written.size) == row["size"] and page.width > 4 * 352
    with Image.open("pages/exact-noised.png") as written:  # the numbers are those of the file on disk
        seen = model.preprocessing.transform()(written.convert("RGB"))
    probability = float(model(seen[None].float() / 255).softmax(-1).max())
    assert probability == pytest.approx(rows[1]["noised"]["top"][0]["probability"], abs=1e-5)
    with Image.open("pages/clear-noised.png") as written, Image.open(photos / "clear.png") as source:
        hidden = np.asarray(source)[..., 3] == 0
        assert (np.asarray(written)[hidden] == np.asarray(source)[hidden]).all()


def test_one_picture_has_a_table_beside_its_page(call: Any, photos: Path) -> None:
    code, out, err = call(photos / "exact.png", *DIGITS, "--largest", "--seed", 3)
    assert code == 0, err
    lines = [line for line in out.splitlines() if "pictures in" not in line]
    assert re.fullmatch(r"\S+exact.png  64×64  the largest kernel noise found, root mean square 0\.\d{3}", lines[0])
    assert re.match(r"  picture     \d \d+\.\d %, \d ", lines[1]) and lines[3].strip().startswith(
        "same prediction, max"
    )
    assert lines[-2:] == ["  page        exact-nullspace.png", "  noised file exact-noised.png"]
    assert Path("exact-nullspace.png").exists() and Path("exact-noised.png").exists()
    code, out, err = call(photos / "exact.png", *DIGITS)
    assert code == 1 and "exists already" in err and err.count("\n") == 1
    assert call(photos / "exact.png", *DIGITS, "--force", "--rms", 0.01)[0] == 0


def test_a_learned_noise_is_shown_on_tokens_beside_its_permutation(call: Any, photos: Path, tmp_path: Path) -> None:
    tiny.noise().save(tmp_path / "noise.safetensors")
    names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    for number, name in enumerate(names):
        (tmp_path / "classes" / f"{number}-{name}").mkdir(parents=True)
        (tmp_path / "classes" / f"{number}-{name}" / "one.png").write_bytes((photos / "exact.png").read_bytes())
    learned = ["--noise", "noise.safetensors", "--classes", "classes"]
    code, out, err = call(photos / "larger.png", *DIGITS, *learned, "-o", "page.png", "--json")
    assert code == 0, err
    (row,) = json.loads(out)
    assert all(each["name"] == f"{each['class']}-{names[each['class']]}" for each in row["noised"]["top"])
    assert row["noise"] == "learned noise" and row["page"] == "page.png" and "noised_file" not in row
    assert row["permuted"]["token_change"] == pytest.approx(row["noised"]["token_change"], rel=1e-5)
    assert any("not to pixels" in note for note in row["notes"])
    assert not list(tmp_path.glob("*noised*"))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--rms", "0.1", "--largest"], "exclude each other"),
        (["--noise", "none.safetensors"], "expected a noise file"),
        (["--noise", "none.safetensors", "--largest"], "belong to kernel noise"),
        (["-o", "page.jpg"], "ends in .png for one picture"),
        (["--classes", "photos"], "without names"),
        (["--model-args", "num_classes=0"], "has no classifier"),
    ],
)
def test_bad_input_is_one_line(call: Any, photos: Path, words: list[str], expected: str) -> None:
    code, out, err = call(photos / "exact.png", *DIGITS, *words)
    assert code == 1 and out == "" and err.startswith("error: ") and err.count("\n") == 1
    assert expected in err and not list(Path().glob("*.png"))


def test_a_noised_picture_is_never_written_over_a_source(call: Any, photos: Path) -> None:
    (photos / "exact-noised.png").write_bytes((photos / "exact.png").read_bytes())
    code, _, err = call(photos, *DIGITS, "-o", photos, "--force")
    assert code == 1 and "exact-noised.png is among the pictures" in err


def test_what_is_no_picture_or_transparent_stops_no_other(call: Any, photos: Path) -> None:
    (photos / "broken.png").write_bytes((photos / "exact.png").read_bytes()[:90])
    with Image.open(photos / "clear.png") as layer:
        layer.putalpha(0)
        layer.save(photos / "clear.png")
    code, out, err = call(photos, *DIGITS, "-o", "pages", "--rms", 0.05)
    assert code == 4, err
    assert "broken.png  error: " in out and "clear.png  error: all that the model reads of it is transparent" in out
    assert sorted(each.name for each in Path("pages").iterdir()) == [
        f"{name}-{kind}.png" for name in ("exact", "larger") for kind in ("noised", "nullspace")
    ]


@pytest.mark.real
def test_a_real_photo_at_its_own_size(call: Any, assets: Path) -> None:
    source = assets / "imagenet_val_600" / "images" / "ILSVRC2012_val_00000347.JPEG"
    weights = assets / "deit_tiny_patch16_224" / "model.safetensors"
    code, out, err = call(source, "--weights", weights, "--json")
    assert code == 0, err
    (row,) = json.loads(out)
    assert row["picture"]["top"][0]["name"] == row["noised"]["top"][0]["name"] == "canoe"
    assert row["size"] == [227, 227] and row["noised"]["rms"] > 0.19
    assert row["noised"]["probability_change"] < 0.005 and row["noised"]["token_change"] < 0.005
    assert row["permuted"]["probability_change"] > 0.3 and row["permuted"]["token_change"] > 0.5
