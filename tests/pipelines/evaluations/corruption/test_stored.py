"""Files that others corrupted and stored, beside the corruptions made here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from nullspace.robustness.corruptions.corruption import Corruption, corrupted
from pipelines.data.shards import read_shard, shard_path
from pipelines.engine.stage import Done
from pipelines.errors import SourceError
from pipelines.evaluations.corruption.report import REPORT, section
from pipelines.evaluations.corruption.rows import EVALUATION, tracked
from pipelines.evaluations.corruption.settings import CorruptionSettings
from pipelines.evaluations.corruption.stored import StoredImages
from pipelines.report.view import Result, StageView
from tests.pipelines import tiny

KINDS, SEVERITIES = ("fog", "pixelate"), (2, 4)


@pytest.fixture(scope="module")
def stored(made: dict[str, Done], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corruptions of this package as files, in class folders as of ImageNet-C; lossless, to compare with."""
    root = tmp_path_factory.mktemp("stored")
    for name in ("000000", "000001"):
        shard = read_shard(shard_path(made["ingest"].folder, name))
        for kind in KINDS:
            for severity in SEVERITIES:
                pictures = corrupted(shard.images, Corruption(kind, severity), shard.ids, seed=tiny.SEED)
                for id_, label, picture in zip(shard.ids, shard.labels.tolist(), pictures, strict=True):
                    save(root / kind / str(severity) / f"class_{label}" / f"{id_}.png", picture)
    return root


def save(path: Path, picture: torch.Tensor) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture.permute(1, 2, 0).numpy()).save(path)


def settings(stored: Path, **more: Any) -> CorruptionSettings:
    given = {
        "names": KINDS,
        "severities": SEVERITIES,
        "images": 20,
        "examples": 0,
        "controls": False,
        "batch_images": 8,
    }
    return CorruptionSettings.model_validate({**given, "stored": str(stored), **more})


@pytest.fixture(scope="module")
def evaluated(made: dict[str, Done], stored: Path, tmp_path_factory: pytest.TempPathFactory) -> Done:
    return tiny.evaluated(EVALUATION, tmp_path_factory.mktemp("corruption"), settings(stored), made)


def test_the_same_pixels_as_files_give_the_same_answers(evaluated: Done) -> None:
    found = evaluated.result["conditions"]
    names = ["fog_2", "pixelate_4", "fog", "severity_4", "mean"]
    for name in names:
        made, read = found[name], found[f"stored_{name}"]
        assert read["n"] == made["n"] == 20
        for figure in ("error", "error_ci", "agreement", "mse_probabilities", "excess_error"):
            assert read.get(figure) == pytest.approx(made.get(figure)), (name, figure)
        assert "kernel_share" not in read and "change_rms" not in read, "their pixels were cropped otherwise"
    assert tracked("conditions.stored_mean.error") and not tracked("conditions.stored_fog_2.error")
    assert tracked("conditions.stored_severity_2.error")


def test_the_report_has_columns_of_their_own(evaluated: Done) -> None:
    view = StageView("digits", Result(evaluated.result))
    shown = section(view)
    for table in shown.tables:
        assert table.columns[-2:] == ["Error, stored files", "Unchanged, stored files"]
        assert all(len(row) == len(table.columns) for row in table.rows)
        assert [row[-2].text for row in table.rows] == [row[1].text for row in table.rows]
    fact = dict(shown.facts)["Stored files, read as they are"]
    assert fact.startswith("mean error ") and "mCE not defined: it needs all 15" in fact
    assert REPORT.columns["Mean error, stored files"](view).n == 20


def test_files_are_found_by_path_or_else_by_a_unique_name(tmp_path: Path) -> None:
    pixels = {name: torch.full((3, 32, 32), value, dtype=torch.uint8) for name, value in (("a", 9), ("b", 77))}
    folder = tmp_path / "fog" / "1"
    save(folder / "n01" / "x.png", pixels["a"])
    save(folder / "n02" / "x.png", pixels["b"])
    save(folder / "n02" / "y.v2.png", pixels["b"])
    images = StoredImages(str(tmp_path), ["fog"], [1], (32, 32))
    for id_, name in (("n01/x.JPEG", "a"), ("n02/x.JPEG", "b"), ("n02/x", "b"), ("other/y.v2.jpg", "b")):
        assert torch.equal(images.images("fog", 1, [id_])[0], pixels[name]), id_
    with pytest.raises(SourceError, match=r"of 2 images 2 files \(x.JPEG, z.png\) have none"):
        images.check(["x.JPEG", "z.png"])


def test_what_cannot_be_read_as_it_is_is_named(stored: Path, made: dict[str, Done], tmp_path: Path) -> None:
    with pytest.raises(
        SourceError, match=r"no folder snow/2; expected CORRUPTION/SEVERITY/CLASS/FILE.*corruption\.names"
    ):
        tiny.evaluated(EVALUATION, tmp_path, settings(stored, names=("fog", "snow")), made)
    with pytest.raises(SourceError, match=r"corruption\.stored: .*/absent is no folder"):
        StoredImages(str(tmp_path / "absent"), ["fog"], [2], (64, 64)).check(["x"])
    some = next(stored.glob("fog/2/*/*.png"))
    id_ = some.stem
    with pytest.raises(SourceError, match="is 64×64 pixels, the model reads 32×32; stored corruptions are not resized"):
        StoredImages(str(stored), ["fog"], [2], (32, 32)).check([id_])
    broken = tmp_path / "fog" / "2" / "n01" / f"{id_}.png"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(some.read_bytes()[:60])
    with pytest.raises(SourceError, match=r"n01/.*\.png: damaged or truncated"):
        StoredImages(str(tmp_path), ["fog"], [2], (64, 64)).check([id_])


def test_a_jpeg_is_decoded_as_pillow_does(tmp_path: Path) -> None:
    pixels = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    path = tmp_path / "fog" / "1" / "n01" / "x.JPEG"
    save(path, pixels)
    read = StoredImages(str(tmp_path), ["fog"], [1], (32, 32)).images("fog", 1, ["n01/x.JPEG"])[0]
    assert np.array_equal(read.permute(1, 2, 0).numpy(), np.asarray(Image.open(path)))
