"""Images beside a table of labels: separators, columns, rows and files that do not match."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.errors import SourceError
from tests.pipelines.data.sources.made import failures, fill, flat, listed, opened


def test_a_table_labels_the_images(tmp_path: Path) -> None:
    assert listed(opened(flat(tmp_path))) == {"a.png": 3, "c.png": -1, "sub/b.png": 0}


def test_the_table_may_lie_elsewhere(tmp_path: Path) -> None:
    flat(tmp_path / "images")
    (tmp_path / "images/labels.csv").rename(tmp_path / "truth.csv")
    assert listed(opened(tmp_path / "images", labels=str(tmp_path / "truth.csv")))["a.png"] == 3


def test_images_beside_their_table_in_a_folder_of_that_name(tmp_path: Path) -> None:
    flat(tmp_path / "images")
    (tmp_path / "images/labels.csv").rename(tmp_path / "labels.csv")
    assert listed(opened(tmp_path)) == {"a.png": 3, "c.png": -1, "sub/b.png": 0}


def test_excels_byte_order_mark_quotes_and_spaces_are_read(tmp_path: Path) -> None:
    fill(tmp_path, "a,b.png", "c.png")
    (tmp_path / "labels.csv").write_bytes('\ufefffile, label\r\n"a,b.png", 4\r\n./c.png ,5\r\n'.encode())
    assert listed(opened(tmp_path)) == {"a,b.png": 4, "c.png": 5}


def test_another_label_column_can_be_named(tmp_path: Path) -> None:
    table = "file,label,coarse\na.png,3,1\nsub/b.png,0,1\nc.png,2,0\n"
    assert listed(opened(flat(tmp_path, table), label_column="coarse"))["a.png"] == 1


SEPARATED = {
    "semicolons": "file;label\na.png;3\nsub/b.png;0\nc.png;\n",
    "tabs": "file\tlabel\na.png\t3\nsub/b.png\t0\nc.png\t\n",
    "bars": "label|file\n3|a.png\n0|sub/b.png\n|c.png\n",
    "commas inside": 'size, w x h;file;"label"\n"1,2";"a.png";3\n1,2;sub/b.png;0\n1,2;c.png;\n',
    "as Excel says": "\ufeffsep=;\r\nfile;label\r\na.png;3\r\nsub/b.png;0\r\nc.png;\r\n",
    "empty lines": "file,label\na.png,3\n\nsub/b.png,0\nc.png,\n\n",
}


@pytest.mark.parametrize("table", SEPARATED.values(), ids=SEPARATED)
def test_the_separator_is_recognised(tmp_path: Path, table: str) -> None:
    assert listed(opened(flat(tmp_path, table))) == {"a.png": 3, "c.png": -1, "sub/b.png": 0}


def test_the_line_of_an_error_counts_the_one_that_names_the_separator(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="line 3: expected a class number"):
        listed(opened(flat(tmp_path, "sep=;\nfile;label\na.png;cat\n")))


def test_columns_of_other_names_are_named(tmp_path: Path) -> None:
    flat(tmp_path, "filename;class;label\na.png;3;9\nsub/b.png;0;9\nc.png;2;9\n")
    source = opened(tmp_path, file_column="filename", label_column="class")
    assert listed(source) == {"a.png": 3, "c.png": 2, "sub/b.png": 0}


def test_wnids_in_a_table_are_numbered_by_their_sorted_names(tmp_path: Path) -> None:
    source = opened(flat(tmp_path, "file,label\na.png,n02102040\nsub/b.png,n01440764\nc.png,\n"))
    assert source.class_names() == ["n01440764", "n02102040"]
    assert listed(source) == {"a.png": 1, "c.png": -1, "sub/b.png": 0}
    assert opened(flat(tmp_path / "numbers")).class_names() is None


def unmatched(folder: Path) -> Path:
    flat(folder, "file,label\na.png,3\nm1.png,1\nm2.png,1\nm3.png,1\nm4.png,1\n")
    return folder


def test_a_table_that_does_not_match_the_folder_is_an_error(tmp_path: Path) -> None:
    pattern = (
        r"labels.csv lists 4 files \(m1.png, m2.png, m3.png, …\) that are not in .* and does not list "
        r"2 files \(c.png, sub/b.png\) of .*unmatched: skip"
    )
    source = opened(unmatched(tmp_path))
    with pytest.raises(SourceError, match=pattern):
        next(source.records())
    with pytest.raises(SourceError, match=pattern):
        source.digest()


def test_files_without_a_row_alone_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"labels.csv does not list 2 files \(c.png, sub/b.png\)"):
        listed(opened(flat(tmp_path, "file,label\na.png,3\n")))


def test_skipped_files_and_rows_become_records_that_fail_with_the_reason(tmp_path: Path) -> None:
    source = pickle.loads(pickle.dumps(opened(unmatched(tmp_path), unmatched="skip")))
    assert len(listed(source)) == 7
    missing = "listed in labels.csv, but not on disk"
    extra = "not listed in labels.csv"
    assert failures(source) == {
        **{f"m{n}.png": missing for n in range(1, 5)},
        "c.png": extra,
        "sub/b.png": extra,
    }


BAD_TABLES = {
    "no rows": ("file,label\n", "expected rows of `file,label`, got none"),
    "empty": ("", "expected a column 'file' and a column 'label', got none"),
    "columns": (
        "path,class\na.png,1\n",
        "expected a column 'file' and a column 'label', got path, class; "
        "name them with --set source.file_column=path --set source.label_column=class",
    ),
    "one column": ("filename;label\na.png;1\n", "a column 'file', got filename, label; name it with .*=filename$"),
    "no labels": ("file\na.png\n", "expected a column 'label', got file; name it with --set source.label_column=NAME"),
    "no header": ("a.png,1\nb.png,2\n", "got a.png, 1; its first line must name the columns, e.g. file,label"),
    "a name among wnids": ("file,label\na.png,n01440764\nb.png,tench\n", "line 3: expected a wnid .* got 'tench'"),
    "twice": ("file,label\na.png,1\n./a.png,2\n", "line 3: a.png is listed twice; ids must be unique"),
    "name": ("file,label\na.png,cat\n", "line 2: expected a class number 0, 1, …, or -1 for unknown, got 'cat'"),
    "fraction": ("file,label\na.png,1.0\n", "line 2: expected a class number .* got '1.0'"),
    "negative": ("file,label\na.png,-2\n", "line 2: expected a class number .* got '-2'"),
    "huge": (f"file,label\na.png,{1 << 63}\n", "line 2: expected a class number .* got '9223372036854775808'"),
    "no file": ("file,label\n,2\n", "line 2: the file name is empty"),
    "short": ("file,label\na.png\n", "line 2: expected 2 cells"),
    "long": ("file,label\na.png,1,2,3\n", "line 2: expected 2 cells"),
}


@pytest.mark.parametrize(("table", "message"), BAD_TABLES.values(), ids=BAD_TABLES)
def test_a_table_that_cannot_be_used_is_an_error(tmp_path: Path, table: str, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        listed(opened(flat(tmp_path, table)))


def test_a_table_in_another_encoding_is_an_error(tmp_path: Path) -> None:
    flat(tmp_path)
    (tmp_path / "labels.csv").write_bytes("file,label\nä.png,1\n".encode("latin-1"))
    with pytest.raises(SourceError, match="expected UTF-8 text: .*save the table as UTF-8"):
        listed(opened(tmp_path))


def test_a_table_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    fill(tmp_path, "a.png")
    with pytest.raises(SourceError, match=r"labels.csv: expected a table .*, found no such file; name the table in"):
        opened(tmp_path, kind="csv")
    with pytest.raises(SourceError, match=r"gone.csv: .*found no such file; correct source.labels"):
        opened(tmp_path, labels=str(tmp_path / "gone.csv"))


@settings(max_examples=30, deadline=None)
@given(on_disk=st.sets(st.integers(0, 9)), in_table=st.sets(st.integers(0, 9), min_size=1))
def test_nothing_is_lost_when_table_and_folder_differ(tmp_path_factory: Any, on_disk: set[int], in_table: set[int]):
    folder = fill(tmp_path_factory.mktemp("t"), *(f"{n}.png" for n in sorted(on_disk)))
    (folder / "labels.csv").write_text("file,label\n" + "".join(f"{n}.png,{n}\n" for n in in_table))
    source = opened(folder, kind="csv", unmatched="skip")
    assert set(listed(source)) == {f"{n}.png" for n in on_disk | in_table}
    assert set(failures(source)) == {f"{n}.png" for n in on_disk ^ in_table}
    if on_disk == in_table:
        assert listed(opened(folder)) == listed(source)
    else:
        with pytest.raises(SourceError, match="correct the table or the folder"):
            listed(opened(folder))
