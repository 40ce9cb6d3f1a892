"""Files appear whole or not at all."""

from __future__ import annotations

import math
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.files import read_json, write_json, write_table, write_text, written_aside


def test_a_file_is_written_beside_and_renamed(tmp_path: Path) -> None:
    target = tmp_path / "result"
    target.write_text("old")
    with written_aside(target) as aside:
        assert aside.parent == tmp_path and aside.name.startswith(".result.")
        aside.write_text("new")
        assert target.read_text() == "old", "until the end it is the old one"
    assert target.read_text() == "new" and list(tmp_path.iterdir()) == [target]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = write_text(tmp_path / "result", "old")
    with pytest.raises(RuntimeError), written_aside(target) as aside:
        aside.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]


def test_two_writers_do_not_share_a_name(tmp_path: Path) -> None:
    with written_aside(tmp_path / "x") as one, written_aside(tmp_path / "x") as other:
        assert one != other
        one.write_text("one")
        other.write_text("other")
    assert (tmp_path / "x").read_text() == "one", "the last to finish"


def test_json_is_read_as_it_was_written(tmp_path: Path) -> None:
    content = {"a": [1, 2.5, None, True], "σ": {"b": "ü"}}
    file = write_json(tmp_path / "x.json", content)
    assert read_json(file) == content
    assert "σ" in file.read_text(encoding="utf-8") and file.read_text(encoding="utf-8").endswith("}\n")


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_json_holds_no_nan(tmp_path: Path, value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"a": value})
    assert list(tmp_path.iterdir()) == []


def test_tables_go_round(tmp_path: Path) -> None:
    table = pa.table({"id": ["a", "b"], "value": [1.0, None]})
    assert pq.read_table(write_table(tmp_path / "x.parquet", table)).equals(table)
    with pytest.raises(FileNotFoundError):
        write_table(tmp_path / "missing" / "x.parquet", table)
