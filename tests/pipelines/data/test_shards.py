"""Shards: pixels, ids and labels go round unchanged; empty ones are no trouble."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from nullspace.metrics.keyed import place
from pipelines.data.shards import (
    Shard,
    first_images,
    lowest_places,
    read_shard,
    shard_path,
    shard_sizes,
    shard_table,
    write_shard,
)
from pipelines.data.split import make_split


def pixels(count: int, height: int = 5, width: int = 7, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 3, height, width), dtype=np.uint8)


def write(folder: Path, *sizes: int) -> list[str]:
    """Shards of the given sizes over the ids i000, i001 …; returns the ids."""
    ids = [f"i{number:03d}" for number in range(sum(sizes))]
    images, start = pixels(sum(sizes)), 0
    for number, size in enumerate(sizes):
        part = slice(start, start + size)
        table = shard_table(ids[part], images[part], list(range(start, start + size)))
        write_shard(shard_path(folder, f"{number:06d}"), table)
        start += size
    return ids


def test_a_shard_is_read_as_it_was_written(tmp_path: Path) -> None:
    images = pixels(4)
    file = write_shard(tmp_path / "shard-000000.parquet", shard_table(["a", "ü", "c/d", ""], images, [3, -1, 0, 999]))
    shard = read_shard(file)
    assert shard.ids == ["a", "ü", "c/d", ""]
    assert shard.labels.tolist() == [3, -1, 0, 999] and shard.labels.dtype == torch.int64
    assert shard.images.dtype == torch.uint8 and np.array_equal(shard.images.numpy(), images)
    shard.images[0] = 0  # torch may write to it: it is no view of Arrow's memory


def test_the_file_says_shape_and_type_to_any_reader(tmp_path: Path) -> None:
    file = write_shard(tmp_path / "s.parquet", shard_table(["a"], pixels(1), [0]))
    field = pq.read_schema(file).field("image")
    assert field.type == pa.binary(3 * 5 * 7) and field.metadata[b"shape"] == b"[3, 5, 7]"
    (image,) = pq.read_table(file).column("image").to_pylist()
    assert np.array_equal(np.frombuffer(image, np.uint8).reshape(3, 5, 7), pixels(1)[0])


def test_images_that_are_not_contiguous_are_stored_right(tmp_path: Path) -> None:
    channels_last = pixels(2).transpose(0, 2, 3, 1)
    images = channels_last.transpose(0, 3, 1, 2)[:, ::-1]
    file = write_shard(tmp_path / "s.parquet", shard_table(["a", "b"], images, [0, 1]))
    assert np.array_equal(read_shard(file).images.numpy(), images)


def test_an_empty_shard_keeps_its_image_size_and_is_not_named(tmp_path: Path) -> None:
    write(tmp_path, 2, 0, 1)
    empty = read_shard(shard_path(tmp_path, "000001"))
    assert empty.images.shape == (0, 3, 5, 7) and empty.ids == [] and list(empty.batches(4)) == []
    assert list(shard_sizes(tmp_path)) == ["000000", "000002"]


def test_a_table_of_several_row_groups_is_one_shard(tmp_path: Path) -> None:
    images = pixels(7)
    table = shard_table([str(number) for number in range(7)], images, [0] * 7)
    pq.write_table(table, tmp_path / "s.parquet", row_group_size=2)
    assert np.array_equal(read_shard(tmp_path / "s.parquet").images.numpy(), images)


@pytest.mark.parametrize(("count", "size", "lengths"), [(7, 3, [3, 3, 1]), (6, 3, [3, 3]), (2, 5, [2]), (0, 5, [])])
def test_batches_cover_a_shard_once(count: int, size: int, lengths: list[int]) -> None:
    shard = Shard([str(number) for number in range(count)], torch.empty(count, 3, 1, 1), torch.zeros(count))
    slices = list(shard.batches(size))
    assert [len(shard.ids[part]) for part in slices] == lengths
    assert [id_ for part in slices for id_ in shard.ids[part]] == shard.ids


def test_the_first_images_are_taken_across_shards(tmp_path: Path) -> None:
    write(tmp_path, 2, 0, 3, 4)
    everything = torch.from_numpy(pixels(9)).float() / 255
    for count in (1, 2, 4, 9):
        assert torch.equal(first_images(tmp_path, count), everything[:count])
    assert len(first_images(tmp_path, 20)) == 9, "there are no more"


def test_the_lowest_places_do_not_depend_on_the_cut(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    ids = write(one, 30, 20)
    assert ids == write(other, 7, 0, 11, 32)
    expected = sorted(place(id_, 5) for id_ in ids)
    assert lowest_places(one, 5, 12) == lowest_places(other, 5, 12) == expected[:12]
    assert lowest_places(one, 5, 99) == expected
    split = make_split(lowest_places(other, 5, 18), 5, learn=10, validation=5, calibration=2, total=50)
    assert sum(split.part(id_) == "learn" for id_ in ids) == 10
