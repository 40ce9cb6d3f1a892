"""Tar files of samples: patterns of shards, members of a key, shards that are cut or damaged."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.errors import SourceError
from tests.pipelines.data.sources.made import failures, grey, in_pieces, listed, opened, samples, shard


def test_a_tar_file_of_samples(tmp_path: Path) -> None:
    source = opened(shard(tmp_path / "val-000000.tar", samples()))
    assert listed(source) == {"val-000000.tar#000000": 0, "val-000000.tar#000001": 1, "val-000000.tar#000002": 0}
    assert [grey(source.read(record)) for record in source.records()] == [0, 1, 2]


def test_samples_are_read_in_any_order_and_from_any_shard(tmp_path: Path) -> None:
    shard(tmp_path / "a.tar", samples(40))
    shard(tmp_path / "deep/b.tar", samples(3, start=38))  # keys may repeat in another shard
    source = opened(tmp_path)
    records = list(source.records())
    assert len({record.id for record in records}) == 43
    order = np.random.default_rng(0).permutation(len(records))
    assert {int(row): grey(source.read(records[row])) for row in order} == {
        row: int(record.id.rpartition("#")[2]) for row, record in enumerate(records)
    }


MEMBERS: dict[str, tuple[dict[str, bytes], dict[str, int]]] = {
    "label in json": ({"a.jpg": b"1", "a.json": b'{"label": 7}'}, {"a": 7}),
    "cls before json": ({"a.json": b'{"label": 7}', "a.cls": b"2\n", "a.jpg": b"1"}, {"a": 2}),
    "unlabelled": ({"a.webp": b"1", "b.jpeg": b"2", "b.json": b"{}", "c.PNG": b"3"}, {"a": -1, "b": -1, "c": -1}),
    "not side by side": ({"a.jpg": b"1", "b.jpg": b"2", "a.cls": b"3", "b.cls": b"4"}, {"a": 3, "b": 4}),
    "folders": ({"./v1.0/a.jpg": b"1", "./v1.0/a.cls": b"3", "x/a.jpg": b"2"}, {"v1.0/a": 3, "x/a": -1}),
    "a long name": ({f"{'k' * 150}.jpg": b"1", f"{'k' * 150}.cls": b"5"}, {"k" * 150: 5}),
    "left out": ({"README": b"1", "._a.jpg": b"2", "a.jpg": b"3"}, {"a": -1}),
}  # fmt: skip


@pytest.mark.parametrize(("members", "expected"), MEMBERS.values(), ids=MEMBERS)
def test_members_of_a_key_are_a_sample(tmp_path: Path, members: dict[str, bytes], expected: dict[str, int]) -> None:
    source = opened(shard(tmp_path / "s.tar", members))
    assert listed(source) == {f"s.tar#{key}": label for key, label in expected.items()}
    images = {data for name, data in members.items() if name.endswith(("jpg", "jpeg", "webp", "PNG"))}
    assert {source.read(record) for record in source.records()} <= images


def test_a_sample_without_image_fails_when_it_is_read(tmp_path: Path) -> None:
    source = opened(shard(tmp_path / "s.tar", {"a.cls": b"1", "b.jpg": b"2", "b.cls": b"0"}))
    assert listed(source) == {"s.tar#a": 1, "s.tar#b": 0}
    assert list(failures(source)) == ["s.tar#a"] and "no image" in failures(source)["s.tar#a"]


def test_members_of_other_endings_can_be_named(tmp_path: Path) -> None:
    members = {"a.in.jpg": b"1", "a.mask.png": b"2", "a.target": b"3"}
    source = opened(shard(tmp_path / "s.tar", members), image_column="in.jpg", label_column="target")
    (record,) = source.records()
    assert (record.label, source.read(record)) == (3, b"1")


PATTERNS = ["val-{000000..000002}.tar", "val-*.tar", "val-00000[0-2].tar", "val-{000000,000001,000002}.tar"]


@pytest.mark.parametrize("remote", [False, True])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_means_its_shards(tmp_path: Path, pattern: str, remote: bool) -> None:
    for number in range(3):
        shard(tmp_path / f"val-{number:06d}.tar", samples(2, start=2 * number))
    shard(tmp_path / "train-000000.tar", samples())
    expected = [f"val-{number // 2:06d}.tar#{number:06d}" for number in range(6)]
    where = f"{tmp_path.as_uri()}/" if remote else f"{tmp_path}/"
    source = opened(where + pattern)
    assert list(listed(source)) == expected
    assert len(in_pieces(source)) == 3


def test_shards_of_a_pattern_that_are_missing_are_named(tmp_path: Path) -> None:
    shard(tmp_path / "val-0.tar", samples())
    with pytest.raises(SourceError, match=r"2 files \(.*val-1.tar, .*val-2.tar\) not there; correct source.path"):
        opened(tmp_path / "val-{0..2}.tar")
    with pytest.raises(SourceError, match="0 files"):
        opened(tmp_path / "none-*.tar")
    with pytest.raises(SourceError, match="a pattern means tar shards"):
        opened(tmp_path / "*.png")
    with pytest.raises(SourceError, match="more than 1000000 names"):
        opened(tmp_path / "{0..99999999}.tar")


def test_braces_and_brackets_may_be_part_of_a_name(tmp_path: Path) -> None:
    assert len(listed(opened(shard(tmp_path / "[a]{1,2}*" / "s.tar", samples()).parent))) == 3


BAD_SHARDS: dict[str, tuple[bytes | dict[str, bytes], str]] = {
    "two images": ({"a.jpg": b"1", "a.png": b"2"}, r"s.tar#a.png: a second image of this key beside a.jpg"),
    "a key twice": ({"a.jpg": b"1", "b.jpg": b"2", "./a.jpg": b"3"}, "a second image of this key"),
    "two labels": ({"a.jpg": b"1", "a.cls": b"2", "./a.cls": b"3"}, "a second label of this key"),
    "no number": ({"a.jpg": b"1", "a.cls": b"cat"}, "s.tar#a.cls: expected a class number .* got 'cat'"),
    "no samples": ({"README": b"1"}, "expected tar files with members such as KEY.jpg"),
    "no tar": (b"\x1f\x8b" * 600, "not a whole tar file from the start: .*expected an uncompressed tar"),
    "nothing": (b"", "not a whole tar file from the start: empty file"),
}


@pytest.mark.parametrize(("content", "message"), BAD_SHARDS.values(), ids=BAD_SHARDS)
def test_shards_that_cannot_be_used_are_an_error(tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / "s.tar"
    path.write_bytes(content) if isinstance(content, bytes) else shard(path, content)
    with pytest.raises(SourceError, match=message):
        listed(opened(path))


@pytest.mark.parametrize("left", [512, 700, 1024, 1536, 3000, 3 * 1024])
def test_a_tar_file_that_was_cut_is_an_error_wherever_that_was(tmp_path: Path, left: int) -> None:
    path = shard(tmp_path / "s.tar", {name: data.ljust(600) for name, data in samples(1).items()})
    os.truncate(path, left)
    with pytest.raises(SourceError, match="s.tar is not a whole tar file .*: fetch or write it again"):
        listed(opened(path))


def test_a_damaged_header_inside_a_shard_is_an_error_not_its_end(tmp_path: Path) -> None:
    path = shard(tmp_path / "s.tar", samples())
    content = bytearray(path.read_bytes())
    content[3 * 1024 + 148 : 3 * 1024 + 156] = b"77777777"  # the checksum of the fourth member
    path.write_bytes(content)
    with pytest.raises(SourceError, match="not a whole tar file after 1 samples: it is cut off or damaged there"):
        listed(opened(path))


def test_a_shard_that_was_changed_after_listing_fails_image_by_image(tmp_path: Path) -> None:
    path = shard(tmp_path / "s.tar", samples())
    source = opened(path)
    records = list(source.records())
    shard(path, samples(3, start=5))
    for record in records:
        with pytest.raises(OSError, match="another member lies there now"):
            source.read(record)
    os.truncate(path, 700)
    again = opened(path)
    for record in records:
        with pytest.raises(OSError, match="changed while it was read|cannot be read"):
            again.read(record)
