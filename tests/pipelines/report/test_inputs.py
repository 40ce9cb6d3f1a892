"""What is read from stage folders: samples and pictures."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from pipelines.report.inputs import LARGEST_SIDE, examples, thumbnail, unreadable
from tests.pipelines.report.results import write_pictures


def test_unreadable_reads_no_more_than_asked(ingest: Path) -> None:
    sample = unreadable([ingest], limit=45)
    assert (sample.total, len(sample.rows)) == (61, 45)
    assert [row["id"] for row in sample.rows[39:41]] == ["0-39", "1-0"]


def test_large_pictures_become_small_and_small_ones_stay_as_they_are(tmp_path: Path) -> None:
    large, small = tmp_path / "00_a.png", tmp_path / "01_a.png"
    Image.new("RGB", (1000, 500)).save(large)
    Image.new("RGB", (32, 32)).save(small)
    assert Image.open(io.BytesIO(thumbnail(large))).size == (LARGEST_SIDE, LARGEST_SIDE // 2)
    assert thumbnail(small) == small.read_bytes()
    assert examples(tmp_path).rows == []


def test_pictures_stand_in_rows_of_one_image_each(tmp_path: Path) -> None:
    write_pictures(tmp_path, ("zebra", "difference", "original"), rows=8)
    found = examples(tmp_path)
    assert found.columns == ["original", "difference", "zebra"], "the known ones first"
    assert len(found.rows) == 6 and found.rows[5]["zebra"].name == "05_zebra.png"
    assert examples(None).rows == []
