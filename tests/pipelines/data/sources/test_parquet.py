"""Parquet files of encoded images: columns, ids, files that changed after they were listed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.errors import SourceError
from tests.pipelines.data.sources.made import failures, grey, listed, opened, parquet, png


def test_a_parquet_file_of_bytes(tmp_path: Path) -> None:
    source = opened(parquet(tmp_path / "p.parquet", label=[4, 3, None, 1, 0]))
    assert listed(source) == {"p.parquet#0": 4, "p.parquet#1": 3, "p.parquet#2": -1, "p.parquet#3": 1, "p.parquet#4": 0}
    assert [grey(source.read(record)) for record in source.records()] == [0, 1, 2, 3, 4]


def test_rows_are_read_in_any_order_and_from_any_file(tmp_path: Path) -> None:
    parquet(tmp_path / "a.parquet", 70)
    parquet(tmp_path / "sub/b.parquet", 3, start=100)
    source = opened(tmp_path)
    records = list(source.records())
    assert len(records) == 73 and records[70].id == "sub/b.parquet#0"
    for record in [records[place] for place in np.random.default_rng(0).permutation(73)]:
        assert grey(source.read(record)) == (record.row or 0) + (100 if "sub" in record.id else 0)


def test_hugging_faces_image_struct(tmp_path: Path) -> None:
    cells = [{"bytes": png(7), "path": "x.png"}, {"bytes": None, "path": "y.png"}, None]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    source = opened(parquet(tmp_path / "hf.parquet", image=pa.array(cells, kind), label=[1, 2, 3]))
    assert grey(source.read(next(source.records()))) == 7
    assert failures(source) == {
        "hf.parquet#1": "the table names the file y.png instead of holding its bytes",
        "hf.parquet#2": "no bytes (null)",
    }


def test_hugging_faces_class_names(tmp_path: Path) -> None:
    names = ["n02102040", "n01440764"]
    features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
    path = parquet(tmp_path / "a.parquet", 2, label=[1, 0])
    assert opened(path).class_names() is None
    table = pq.read_table(path)
    content = {"huggingface": json.dumps({"info": {"features": features}})}
    pq.write_table(table.replace_schema_metadata(content), path)
    assert opened(path).class_names() == names == opened(tmp_path, limit=1).class_names()
    pq.write_table(table.replace_schema_metadata({"huggingface": "no JSON"}), path)
    assert opened(path).class_names() is None


def test_named_columns(tmp_path: Path) -> None:
    columns = {"image": None, "scan": [png(5), png(6)], "class": [8, 9], "key": [10, 11]}
    source = opened(
        parquet(tmp_path / "p.parquet", **columns), image_column="scan", label_column="class", id_column="key"
    )
    assert listed(source) == {"10": 8, "11": 9}


def test_a_column_called_id_is_used(tmp_path: Path) -> None:
    assert listed(opened(parquet(tmp_path / "p.parquet", 2, id=["x", "y"]))) == {"x": -1, "y": -1}


def test_ids_must_be_unique_over_all_files(tmp_path: Path) -> None:
    parquet(tmp_path / "a.parquet", 3, id=["x", "y", "z"])
    parquet(tmp_path / "b.parquet", 2, id=["w", "y"])
    with pytest.raises(
        SourceError, match=r"the id 'y' occurs twice, again in row 1 of .*b.parquet; ids must be unique"
    ):
        list(opened(tmp_path).records())


BAD_COLUMNS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "no image": ({"image": None, "pixels": [b""]}, {}, "has the columns pixels; expected one of image or bytes"),
    "wrong name": ({}, {"image_column": "scan"}, "has the columns image; expected 'scan': correct source.image_column"),
    "no label": ({}, {"label_column": "class"}, "expected 'class': correct source.label_column"),
    "no id": ({}, {"id_column": "key"}, "expected 'key': correct source.id_column"),
    "text": ({"image": ["x.png"]}, {}, r"'image' is string, expected encoded images \(binary"),
    "names": ({"label": ["cat"]}, {}, r"'label' is string, expected class numbers \(integers\)"),
    "negative": ({"label": [-5]}, {}, "'label' holds -5; expected 0, 1, …, or -1"),
    "null id": ({"id": pa.array([None], pa.string())}, {}, "the id in row 0 is empty"),
}


@pytest.mark.parametrize(("columns", "given", "message"), BAD_COLUMNS.values(), ids=BAD_COLUMNS)
def test_columns_that_cannot_be_used_are_an_error(tmp_path: Path, columns: dict, given: dict, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        list(opened(parquet(tmp_path / "p.parquet", 1, **columns), **given).records())


def test_tables_without_rows_are_an_error(tmp_path: Path) -> None:
    empty = parquet(tmp_path / "p.parquet", image=pa.array([], pa.binary()))
    with pytest.raises(SourceError, match="expected Parquet rows with images, got tables without rows"):
        list(opened(empty).records())


def test_a_damaged_parquet_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "p.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(SourceError, match=r"p.parquet cannot be read as Parquet"):
        list(opened(tmp_path).records())


def test_a_file_that_shrank_fails_row_by_row(tmp_path: Path) -> None:
    source = opened(parquet(tmp_path / "p.parquet", 5))
    records = list(source.records())
    parquet(tmp_path / "p.parquet", 2)
    with pytest.raises(OSError, match="row 4 is not in the file, which ends at row 2"):
        source.read(records[4])
    (tmp_path / "p.parquet").unlink()
    with pytest.raises(OSError, match="cannot be read"):
        source.read(records[0])


def test_a_file_rewritten_after_listing_without_its_column_fails_as_a_read(tmp_path: Path) -> None:
    source = opened(parquet(tmp_path / "p.parquet", 2))
    (record, _) = source.records()
    parquet(tmp_path / "p.parquet", image=None, other=[1, 2])
    with pytest.raises(OSError, match="expected one of image or bytes"):
        source.read(record)
