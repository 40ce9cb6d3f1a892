"""What holds for every kind of source: recognised, pickled, in pieces, with a digest."""

from __future__ import annotations

import os
import pickle
from itertools import chain
from pathlib import Path

import pytest

from tests.pipelines.data.sources.made import KINDS, any_kind, classes, fill, flat, in_pieces, opened, parquet


@pytest.mark.parametrize("kind", KINDS)
def test_the_kind_is_recognised(tmp_path: Path, kind: str) -> None:
    folder = any_kind(kind, tmp_path)
    assert list(opened(folder).records()) == list(opened(folder, kind=kind).records())


@pytest.mark.parametrize("kind", [*KINDS, "digits"])
def test_a_pickled_source_reads_the_same_bytes(tmp_path: Path, kind: str) -> None:
    source = opened(kind="digits", limit=5) if kind == "digits" else opened(any_kind(kind, tmp_path), limit=5)
    read = {record: source.read(record) for record in source.records()}
    packed = pickle.dumps(source)
    assert len(packed) < 10_000  # no images, no listing
    copy = pickle.loads(packed)
    assert read and {record: copy.read(record) for record in copy.records()} == read
    assert copy.digest() == source.digest()


@pytest.mark.parametrize("kind", [*KINDS, "digits"])
@pytest.mark.parametrize("limit", [None, 2])
def test_all_pieces_together_are_the_records(tmp_path: Path, kind: str, limit: int | None) -> None:
    source = opened(kind="digits", limit=limit) if kind == "digits" else opened(any_kind(kind, tmp_path), limit=limit)
    assert [*chain.from_iterable(in_pieces(source))] == list(source.records())


def test_pieces_are_folders_and_the_files_between_them(tmp_path: Path) -> None:
    fill(tmp_path, "a.png", "b.png", "c/y.png", "c/deep/er/x.png", "d/z.png", "e.png", "empty/.hidden", "g.png")
    source = opened(tmp_path, kind="unlabelled")
    names = [[record.id for record in piece] for piece in in_pieces(source)]
    assert names == [["a.png", "b.png"], ["c/deep/er/x.png", "c/y.png"], ["d/z.png"], ["e.png"], [], ["g.png"]]
    assert [*chain.from_iterable(in_pieces(source))] == list(source.records())


def test_classes_are_pieces_with_their_labels_and_loose_files_another(tmp_path: Path) -> None:
    (classes(tmp_path) / "bee.txt").write_text("between the folders by its name")
    source = opened(tmp_path, kind="folder")
    assert [{record.label for record in piece} for piece in in_pieces(source)] == [set(), {0}, {1}, {2}]
    assert [*chain.from_iterable(in_pieces(source))] == list(source.records())


def test_every_parquet_file_is_a_piece(tmp_path: Path) -> None:
    parquet(tmp_path / "a.parquet", 5)
    parquet(tmp_path / "sub/b.parquet", 3, id=["x", "y", "z"])
    source = opened(tmp_path)
    assert [len(piece) for piece in in_pieces(source)] == [5, 3]
    assert [*chain.from_iterable(in_pieces(source))] == list(source.records())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("change", ["rewrite", "add", "touch"])
def test_the_digest_follows_the_images(tmp_path: Path, kind: str, change: str) -> None:
    folder = any_kind(kind, tmp_path)
    before = opened(folder).digest()
    assert opened(folder).digest() == before
    file = next(path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix != ".csv")
    if change == "rewrite":
        file.write_bytes(file.read_bytes() + b"\0")
    elif change == "add":
        file.with_stem("new").write_bytes(file.read_bytes())
        if kind == "csv":
            (folder / "labels.csv").write_text((folder / "labels.csv").read_text() + "new.png,1,n4\n")
    else:
        os.utime(file, (1, 1))
    assert opened(folder).digest() != before


def test_the_digest_follows_names_labels_and_choice(tmp_path: Path) -> None:
    flat(tmp_path)
    digests = [
        opened(tmp_path).digest(),
        opened(tmp_path, limit=2).digest(),
        opened(tmp_path, limit=2, seed=1).digest(),
    ]
    (tmp_path / "labels.csv").write_text("file,label\na.png,3\nsub/b.png,0\nc.png,1\n")
    digests += [opened(tmp_path).digest(), opened(tmp_path, kind="unlabelled").digest()]
    digests += [opened(kind="digits").digest(), opened(kind="digits", split="train").digest()]
    assert len(set(digests)) == len(digests)


def test_listing_does_not_wait_for_the_end(tmp_path: Path) -> None:
    fill(tmp_path, "a/x.png")
    (tmp_path / "b").mkdir()
    records = opened(tmp_path).records()
    assert next(records).id == "a/x.png"
    fill(tmp_path, "b/y.png")  # the second folder was not looked into yet
    assert next(records).id == "b/y.png"
