"""A source listed by tasks on a Ray of several nodes: where, how often, and the error when it cannot be used."""

from __future__ import annotations

import logging
import os
import tarfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
from ray.cluster_utils import Cluster

from pipelines.data.sources import Record, Source, SourceSettings, open_source
from pipelines.data.sources.folder import FolderSource
from pipelines.data.sources.record import Found, Piece
from pipelines.data.sources.storage import Storage
from pipelines.engine.machines.ray_start import patient_start
from pipelines.engine.workers.shard_workers import Workers
from pipelines.errors import SourceError
from pipelines.stages.ingest.listing import _grouped, listed
from pipelines.stages.ingest.manifest import planned_shards, records_of, tables_of, write_manifest
from tests.waiting import LIMIT

_STORE = 150 * 1024**2
WORKERS = Workers(count=2, cpus=1, gpus=0)
CLASSES = ("ant", "bee", "cat", "dog", "emu", "fox")


@dataclass(frozen=True)
class Noting(FolderSource):
    """Notes the node on which each piece is listed. A class with a file `broken` cannot be listed."""

    def listed(self, piece: Piece, found: Found) -> Iterator[Record]:
        notes = Path(self.storage.root).parent / "notes"
        (notes / uuid.uuid4().hex).write_text(f"{ray.get_runtime_context().get_node_id()} {Path(piece.path).name}")
        if Path(piece.path, "broken").exists():
            raise SourceError(f"{piece.path} cannot be listed: broken")
        return super().listed(piece, found)


@pytest.fixture(scope="module")
def nodes() -> Iterator[set[str]]:
    """Ids of two nodes of one CPU each; the driver's own takes no work."""
    head = {"num_cpus": 0, "object_store_memory": _STORE, "include_dashboard": False}
    with patient_start():
        cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        with patient_start():
            added = [cluster.add_node(num_cpus=1, object_store_memory=_STORE) for _ in range(2)]
        cluster.wait_for_nodes(LIMIT)
        ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
        yield {node.node_id for node in added}
    finally:
        ray.shutdown()
        cluster.shutdown()


@pytest.fixture
def source(tmp_path: Path) -> Noting:
    """Six classes, a file that is no image in each of two."""
    for number, name in enumerate(CLASSES):
        (tmp_path / "images" / name).mkdir(parents=True)
        for image in range(number + 1):
            (tmp_path / "images" / name / f"{image}.png").touch()
    for name in ("bee", "fox"):
        (tmp_path / "images" / name / "notes.txt").touch()
    (tmp_path / "notes").mkdir()
    return Noting(Storage.open(str(tmp_path / "images")), classes=True)


def noted(folder: Path) -> list[list[str]]:
    """Node and piece of every listing since the last call."""
    files = sorted((folder / "notes").iterdir())
    found = [file.read_text().split() for file in files]
    for file in files:
        file.unlink()
    return found


def manifest(folder: Path, source: Source, shard_images: int = 4) -> Path:
    write_manifest(folder / "manifest.parquet", listed(source, folder / "listing", WORKERS), shard_images)
    return folder / "manifest.parquet"


@pytest.mark.ray
def test_all_nodes_list_and_the_manifest_is_that_of_one(
    nodes: set[str], source: Noting, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        written = manifest(tmp_path, source)
    found = noted(tmp_path)
    assert sorted(piece for _, piece in found) == list(CLASSES)
    assert {node for node, _ in found} == nodes, "both nodes, and none but them"
    assert [line for line in caplog.messages if "left out" in line] == [
        f"{tmp_path / 'images'}: left out 2 files (bee/notes.txt, fox/notes.txt): not named as images"
    ]
    shards = planned_shards(written)
    assert [*shards.values()] == [4, 4, 4, 4, 4, 1]
    alone = FolderSource(source.storage, classes=True)
    assert [record for shard in shards for record in records_of(written, shard)] == list(alone.records())
    (tmp_path / "one").mkdir()
    write_manifest(tmp_path / "one" / "manifest.parquet", tables_of(alone.records()), 4)
    assert planned_shards(tmp_path / "one" / "manifest.parquet") == shards, "names say what is in them, not who listed"


@pytest.mark.ray
def test_a_piece_that_cannot_be_listed_is_one_line_and_the_others_are_kept(
    nodes: set[str], source: Noting, tmp_path: Path
) -> None:
    (tmp_path / "images" / "emu" / "broken").touch()
    with pytest.raises(SourceError) as raised:
        manifest(tmp_path, source)
    assert str(raised.value) == f"{tmp_path / 'images' / 'emu'} cannot be listed: broken"
    assert not (tmp_path / "manifest.parquet").exists()
    kept = len([*(tmp_path / "listing").glob("[0-9]*.parquet")])
    assert kept
    (tmp_path / "images" / "emu" / "broken").unlink()
    noted(tmp_path)
    manifest(tmp_path, source)
    again = [piece for _, piece in noted(tmp_path)]
    assert "emu" in again and "ant" not in again and len(again) <= 6 - kept


@pytest.mark.ray
def test_ids_in_two_parquet_files_are_refused(nodes: set[str], tmp_path: Path) -> None:
    (tmp_path / "tables").mkdir()
    for name, ids in (("a", ["x", "y"]), ("b", ["z", "y"])):
        pq.write_table(pa.table({"id": ids, "image": [b"", b""]}), tmp_path / "tables" / f"{name}.parquet")
    with pytest.raises(SourceError, match=r"the id 'y' occurs twice, again in row 1 of .*b.parquet") as raised:
        manifest(tmp_path, open_source(SourceSettings(path=str(tmp_path / "tables"))))
    assert "\n" not in str(raised.value)


@pytest.mark.ray
def test_tar_shards_are_listed_by_tasks_and_a_cut_one_is_one_line(nodes: set[str], tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    for name in ("a", "b"):
        with tarfile.open(tmp_path / "shards" / f"{name}.tar", "w") as tar:
            for key in range(3):
                tar.addfile(tarfile.TarInfo(f"{key}.jpg"))
    source = open_source(SourceSettings(path=str(tmp_path / "shards")))
    written = manifest(tmp_path, source)
    found = [record for shard in planned_shards(written) for record in records_of(written, shard)]
    assert found == list(source.records()) and [record.id for record in found][2:4] == ["a.tar#2", "b.tar#0"]
    os.truncate(tmp_path / "shards" / "b.tar", 700)
    (tmp_path / "again").mkdir()
    with pytest.raises(
        SourceError, match="b.tar is not a whole tar file after 1 samples: .*fetch or write it"
    ) as raised:
        manifest(tmp_path / "again", source)
    assert "\n" not in str(raised.value)


def test_many_pieces_are_few_tasks_in_order(tmp_path: Path) -> None:
    pieces = [Piece(f"/images/{number:04d}", number) for number in range(1000)]
    groups = _grouped(pieces, tmp_path)
    assert len(groups) == 250 and [piece for group in groups.values() for piece in group] == pieces
    assert sorted(groups) == list(groups)
    assert not set(groups) & set(_grouped(pieces[1:], tmp_path)), "other pieces, other files"


def test_one_piece_needs_no_task(tmp_path: Path) -> None:
    written = manifest(tmp_path, open_source(SourceSettings(kind="digits")), 100)
    assert not (tmp_path / "listing").exists()
    assert {*planned_shards(written).values()} >= {100}


@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_the_cut_does_not_depend_on_how_rows_arrive(tmp_path: Path, size: int) -> None:
    records = [Record(f"{number}", number, "x", number if number % 2 else None) for number in range(30)]
    found = []
    for seed in range(3):
        ends = np.sort(np.random.default_rng(seed).integers(0, 30, 5)).tolist()
        parts = [records[a:b] for a, b in zip([0, *ends], [*ends, 30], strict=True)]
        file = tmp_path / f"{seed}.parquet"
        write_manifest(file, (table for part in parts for table in tables_of(part)), size)
        assert [record for shard in planned_shards(file) for record in records_of(file, shard)] == records
        found.append(planned_shards(file))
    assert found[0] == found[1] == found[2] and {*list(found[0].values())[:-1]} <= {size}
