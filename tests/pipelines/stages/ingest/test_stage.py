"""Ingest: every record becomes an image or an error row; the tolerated share of errors."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from nullspace.model.preprocessing import Preprocessing
from pipelines.data.shards import read_shard, shard_path, shard_sizes
from pipelines.data.sources import Source, SourceSettings, open_source
from pipelines.engine.ids import digest_files
from pipelines.errors import SourceError, StageError
from pipelines.files import write_table
from pipelines.stages.ingest.manifest import planned_shards, tables_of, write_manifest
from pipelines.stages.ingest.stage import MANIFEST, IngestShards, _result, tolerates

SIZE = Preprocessing(
    input_size=(16, 16),
    interpolation="bilinear",
    crop_pct=1.0,
    crop_mode="center",
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
)
GOOD = {"cat/grey.png", "cat/rgb.jpg", "cat/palette.png", "dog/cmyk.jpg", "dog/deep.png", "dog/one.png"}
BROKEN = {"cat/empty.png", "cat/text.jpg", "dog/cut.jpg", "dog/header.png"}


def encoded(mode: str, format: str, size: tuple[int, int] = (20, 24)) -> bytes:
    values = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    image = Image.fromarray(values).convert("L").convert("I;16") if mode == "I;16" else Image.fromarray(values)
    out = io.BytesIO()
    (image if mode == "I;16" else image.convert(mode)).save(out, format=format)
    return out.getvalue()


@pytest.fixture
def source(tmp_path: Path) -> Source:
    """Two classes with good images of many kinds and broken ones."""
    files = {
        "cat/grey.png": encoded("L", "PNG"),
        "cat/rgb.jpg": encoded("RGB", "JPEG"),
        "cat/palette.png": encoded("P", "PNG"),
        "cat/empty.png": b"",
        "cat/text.jpg": b"<html>404</html>",
        "dog/cmyk.jpg": encoded("CMYK", "JPEG"),
        "dog/deep.png": encoded("I;16", "PNG"),
        "dog/one.png": encoded("RGB", "PNG", (1, 1)),
        "dog/cut.jpg": encoded("RGB", "JPEG", (200, 200))[:900],
        "dog/header.png": encoded("RGB", "PNG")[:20] + struct.pack(">I", 0) + encoded("RGB", "PNG")[24:],
    }
    for name, content in files.items():
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / name).write_bytes(content)
    return open_source(SourceSettings(path=str(tmp_path / "images")))


def ingested(folder: Path, source: Source, shard_images: int) -> Path:
    folder.mkdir()
    write_manifest(folder / MANIFEST, tables_of(source.records()), shard_images)
    worker = IngestShards(str(folder), source, SIZE, max_pixels=10**6)
    list(worker.work(list(planned_shards(folder / MANIFEST))))
    return folder


def test_every_record_becomes_an_image_or_an_error_row(tmp_path: Path, source: Source) -> None:
    folder = ingested(tmp_path / "ingest", source, shard_images=4)
    shards = [read_shard(shard_path(folder, name)) for name in shard_sizes(folder)]
    labels = {id_: label for shard in shards for id_, label in zip(shard.ids, shard.labels.tolist(), strict=True)}
    assert labels == {id_: int(id_.startswith("dog")) for id_ in GOOD}
    assert all(shard.images.shape[1:] == (3, 16, 16) for shard in shards)
    errors = [row for file in sorted(folder.glob("errors-*.parquet")) for row in pq.read_table(file).to_pylist()]
    assert {row["id"] for row in errors} == BROKEN and all(row["path"].endswith(row["id"]) for row in errors)
    reasons = {row["id"]: row["reason"] for row in errors}
    assert reasons["cat/empty.png"] == "the file is empty" and "damaged or truncated" in reasons["dog/cut.jpg"]


def test_the_result_counts_images_errors_and_reasons(tmp_path: Path, source: Source) -> None:
    folder = ingested(tmp_path / "ingest", source, shard_images=4)
    found = _result(folder, folder / MANIFEST)
    assert (found["images"], found["errors"], found["shards"]) == (6, 4, 3)
    assert (found["first_of_many"], found["warnings"]) == (0, [])
    assert sum(found["reasons"].values()) == 4 and found["reasons"]["the file is empty"] == 1
    shards = [shard_path(folder, name) for name in shard_sizes(folder)]
    assert found["ids"] == digest_files(shards)[""].to_dict()


def test_the_cut_changes_no_image(tmp_path: Path, source: Source) -> None:
    one, other = (ingested(tmp_path / str(size), source, size) for size in (3, 10))
    assert _result(one, one / MANIFEST)["ids"] == _result(other, other / MANIFEST)["ids"]
    assert _result(one, one / MANIFEST)["contents"] == _result(other, other / MANIFEST)["contents"]
    found = []
    for folder in (one, other):
        shards = [read_shard(shard_path(folder, name)) for name in shard_sizes(folder)]
        found.append({i: x.numpy() for shard in shards for i, x in zip(shard.ids, shard.images, strict=True)})
    assert all(np.array_equal(found[0][id_], found[1][id_]) for id_ in GOOD)


def test_contents_change_with_an_image_and_not_with_where_it_lies(tmp_path: Path) -> None:
    def contents(place: str, shade: int, name: str = "a.png") -> str:
        (tmp_path / place).mkdir(parents=True)
        Image.new("RGB", (20, 20), (shade, 0, 0)).save(tmp_path / place / name)
        folder = ingested(tmp_path / f"{place}-ingest", open_source(SourceSettings(path=str(tmp_path / place))), 4)
        return str(_result(folder, folder / MANIFEST)["contents"])

    found = contents("one", 10)
    assert found == contents("other", 10) and len(found) == 32
    assert len({found, contents("third", 11), contents("fourth", 10, "b.png")}) == 3, "pixels and ids count"


def test_first_frames_are_used_counted_and_cause_a_warning(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (20, 24), (value, 0, 0)) for value in (10, 200)]
    (tmp_path / "images").mkdir()
    for name in ("a.gif", "b.tif", "c.webp", "d.png"):
        frames[0].save(tmp_path / "images" / name, save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "images" / "one.gif")
    source = open_source(SourceSettings(path=str(tmp_path / "images")))
    folder = ingested(tmp_path / "ingest", source, shard_images=2)
    found = _result(folder, folder / MANIFEST)
    assert (found["images"], found["errors"], found["first_of_many"]) == (5, 0, 4)
    assert found["warnings"] == [
        "4 of 5 images are animations or have several pages; of each only the first is used, as timm does "
        "(a.gif, b.tif, c.webp, …)"
    ]
    values = [read_shard(shard_path(folder, name)).images for name in shard_sizes(folder)]
    assert all(int(image[0].max()) < 20 for images in values for image in images)


def test_a_slice_of_nothing_but_broken_images_is_an_empty_shard(tmp_path: Path, source: Source) -> None:
    folder = ingested(tmp_path / "ingest", source, shard_images=1)
    empty = [name for name in planned_shards(folder / MANIFEST) if name not in shard_sizes(folder)]
    assert len(empty) == 4 and all(read_shard(shard_path(folder, name)).ids == [] for name in empty)


def test_an_image_that_vanished_after_listing_becomes_an_error_row(tmp_path: Path, source: Source) -> None:
    folder = tmp_path / "ingest"
    folder.mkdir()
    write_manifest(folder / MANIFEST, tables_of(source.records()), 100)
    (tmp_path / "images" / "cat" / "rgb.jpg").unlink()
    (name,) = planned_shards(folder / MANIFEST)
    list(IngestShards(str(folder), source, SIZE, max_pixels=10**6).work([name]))
    errors = pq.read_table(folder / f"errors-{name}.parquet").to_pylist()
    assert {row["id"] for row in errors} == BROKEN | {"cat/rgb.jpg"}


def test_a_shard_changed_from_outside_is_noticed(tmp_path: Path, source: Source) -> None:
    folder = ingested(tmp_path / "ingest", source, shard_images=4)
    first, second, *_ = shard_sizes(folder)
    write_table(shard_path(folder, second), pq.read_table(shard_path(folder, first)))
    with pytest.raises(StageError, match="ingest: expected each of 10 ids once"):
        _result(folder, folder / MANIFEST)


@pytest.mark.parametrize(
    ("limit", "images", "errors", "fine"),
    [(0.1, 90, 10, True), (0.1, 89, 11, False), (0, 5, 0, True), (0, 5, 1, False), (1, 0, 7, False), (1, 1, 99, True)],
)
def test_the_tolerated_share_of_errors(limit: float, images: int, errors: int, fine: bool) -> None:
    named = [[f"{number}.png", "the file is empty"] for number in range(min(errors, 3))]
    result = {"images": images, "errors": errors, "unreadable": named}
    if fine:
        tolerates(limit)(result)
        return
    with pytest.raises(SourceError, match=rf"^{errors} of {images + errors} images cannot be read") as error:
        tolerates(limit)(result)
    assert "allows: 0.png (the file is empty)" in str(error.value) and "{" not in str(error.value)
    assert (f", and {errors - 3} more. Repair" in str(error.value)) == (errors > 3)
