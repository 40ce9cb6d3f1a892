"""Sources: every kind lists the same way, is recognised, survives pickling, and says what is wrong with its input."""

from __future__ import annotations

import io
import json
import logging
import os
import pickle
import tarfile
from collections import Counter
from itertools import chain
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from pipelines.data.sources import Record, Source, SourceSettings, open_source
from pipelines.data.sources.record import Found, InOnePiece, digest_of
from pipelines.data.sources.subset import Subset
from pipelines.errors import SourceError


def png(value: int = 0) -> bytes:
    out = io.BytesIO()
    Image.new("L", (2, 2), value).save(out, format="PNG")
    return out.getvalue()


def fill(folder: Path, *names: str) -> Path:
    """Write an image under each name; its grey level is its place in `names`."""
    folder.mkdir(parents=True, exist_ok=True)
    for value, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(png(value))
    return folder


def opened(path: Path | str | None = None, **said: Any) -> Source:
    return open_source(SourceSettings(path=None if path is None else str(path), **said))


def listed(source: Source) -> dict[str, int]:
    records = list(source.records())
    assert len({record.id for record in records}) == len(records)
    return {record.id: record.label for record in records}


def grey(data: bytes) -> int:
    return int(np.asarray(Image.open(io.BytesIO(data)))[0, 0])


def failures(source: Source) -> dict[str, str]:
    """Why `read` fails, per id, of the records whose bytes cannot be had."""
    found = {}
    for record in source.records():
        try:
            source.read(record)
        except OSError as error:
            found[record.id] = str(error)
    return found


def classes(folder: Path) -> Path:
    return fill(folder, "cat/b.png", "cat/a.JPG", "ant/deep/er/c.webp", "dog/d.png")


def flat(folder: Path, table: str = "file,label,wnid\na.png,3,n1\nsub/b.png,0,n2\nc.png,,n3\n") -> Path:
    fill(folder, "a.png", "sub/b.png", "c.png")
    (folder / "labels.csv").write_text(table)
    return folder


def parquet(target: Path, rows: int = 5, start: int = 0, **columns: Any) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    cells = {"image": [png(start + row) for row in range(rows)], **columns}
    pq.write_table(pa.table({name: cell for name, cell in cells.items() if cell is not None}), target, row_group_size=2)
    return target


def shard(target: Path, members: dict[str, bytes]) -> Path:
    """A tar file of these members, in order."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(target, "w") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return target


def samples(count: int = 3, start: int = 0) -> dict[str, bytes]:
    """Members as img2dataset and timm write them: image, label, and what else is known."""
    members: dict[str, bytes] = {}
    for number in range(start, start + count):
        members[f"{number:06d}.png"] = png(number)
        members |= {f"{number:06d}.cls": str(number % 2).encode(), f"{number:06d}.json": b'{"label": 7}'}
    return members


# --- folders ---------------------------------------------------------------------------------------------------------


def test_class_folders_are_labelled_by_their_sorted_names(tmp_path: Path) -> None:
    source = opened(classes(tmp_path))
    assert listed(source) == {"ant/deep/er/c.webp": 0, "cat/a.JPG": 1, "cat/b.png": 1, "dog/d.png": 2}
    assert {record.id: grey(source.read(record)) for record in source.records()}["dog/d.png"] == 3


def test_labels_are_torchvisions(tmp_path: Path) -> None:
    from torchvision.datasets import ImageFolder

    classes(tmp_path)
    fill(tmp_path, "n10/x.png", "n9/x.png", "Zebra/x.png")
    expected = {str(Path(path).relative_to(tmp_path)): label for path, label in ImageFolder(str(tmp_path)).samples}
    assert listed(opened(tmp_path, kind="folder")) == expected


def test_images_without_labels(tmp_path: Path) -> None:
    assert listed(opened(fill(tmp_path, "b.png", "a.png"))) == {"a.png": -1, "b.png": -1}


def test_class_folders_can_be_taken_as_unlabelled(tmp_path: Path) -> None:
    assert set(listed(opened(classes(tmp_path), kind="unlabelled")).values()) == {-1}


def test_the_order_is_the_same_each_time(tmp_path: Path) -> None:
    source = opened(classes(tmp_path))
    assert list(source.records()) == list(source.records()) == sorted(source.records(), key=lambda r: r.id)


def test_hidden_files_are_left_out_and_others_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(tmp_path, "a/x.png", "a/.hidden.png", ".git/y.png", "__MACOSX/z.png")
    (tmp_path / "a/notes.txt").write_text("hello")
    (tmp_path / "README").write_text("hello")
    with caplog.at_level(logging.WARNING):
        assert list(listed(opened(tmp_path))) == ["a/x.png"]
    assert "left out 2 files (README, a/notes.txt): not named as images" in caplog.text


def test_image_formats_that_cannot_be_decoded_are_listed_not_lost(tmp_path: Path) -> None:
    assert list(listed(opened(fill(tmp_path, "a.heic", "b.png", "c.svg")))) == ["a.heic", "b.png", "c.svg"]


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    classes(tmp_path / "real")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/cat").symlink_to(tmp_path / "real/cat")
    assert list(listed(opened(tmp_path / "data"))) == ["cat/a.JPG", "cat/b.png"]
    (tmp_path / "real/cat/loop").symlink_to(tmp_path / "real")
    with pytest.raises(SourceError, match="cat/loop is a link to a folder that holds it; remove the link"):
        listed(opened(tmp_path / "real"))


def test_files_that_cannot_be_read_fail_one_by_one(tmp_path: Path) -> None:
    fill(tmp_path, "good.png")
    (tmp_path / "broken link.png").symlink_to(tmp_path / "nowhere.png")
    os.mkfifo(tmp_path / "pipe.png")
    source = opened(tmp_path)
    assert failures(source) == {"broken link.png": "file not found", "pipe.png": "not a regular file"}
    assert len(source.digest()) == 64


def test_images_beside_class_folders_are_an_error(tmp_path: Path) -> None:
    fill(classes(tmp_path), "x.png", "y.png")
    with pytest.raises(SourceError, match=r"2 files \(x.png, y.png\) lie beside the class folders and have no class"):
        listed(opened(tmp_path, kind="folder"))


@pytest.mark.skipif(os.name == "nt", reason="Windows names are Unicode")
def test_a_name_that_is_not_utf8_is_an_error(tmp_path: Path) -> None:
    with open(os.fsencode(tmp_path) + b"/caf\xe9.png", "wb") as file:
        file.write(png())
    with pytest.raises(SourceError, match=r"caf\\xe9.png' is not valid UTF-8; rename the file"):
        listed(opened(tmp_path))


@pytest.mark.parametrize("name", ["sp ace.png", "a::b.png", "100%.png", "[x]*?.png", "ünïcode.png", "#.png", "~.png"])
def test_odd_names_are_read(tmp_path: Path, name: str) -> None:
    source = opened(fill(tmp_path / "od::d [1]", name))
    (record,) = source.records()
    assert record.id == name and source.read(record) == png()


# --- labels.csv ------------------------------------------------------------------------------------------------------


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


# --- WebDataset ------------------------------------------------------------------------------------------------------


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


# --- Parquet ---------------------------------------------------------------------------------------------------------


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
    said = {"huggingface": json.dumps({"info": {"features": features}})}
    pq.write_table(table.replace_schema_metadata(said), path)
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


@pytest.mark.parametrize(("columns", "said", "message"), BAD_COLUMNS.values(), ids=BAD_COLUMNS)
def test_columns_that_cannot_be_used_are_an_error(tmp_path: Path, columns: dict, said: dict, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        list(opened(parquet(tmp_path / "p.parquet", 1, **columns), **said).records())


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


# --- digits, subsets, digests, pickling ------------------------------------------------------------------------------


def test_the_digits_are_a_source() -> None:
    from pipelines.digits import data

    source = opened(kind="digits")
    records = list(source.records())
    held_out = data.load("held_out")
    assert [record.id for record in records] == held_out.ids
    found = np.asarray(Image.open(io.BytesIO(source.read(records[17]))))
    np.testing.assert_array_equal(found, held_out.images[17])
    assert records[17].label == held_out.labels[17]
    assert len(listed(opened(kind="digits", split="all"))) == 1797
    with pytest.raises(OSError, match="no image 600 in the digits split held_out"):
        source.read(Record("digit-9999", 0, "", 600))


def test_a_limit_takes_the_same_images_spread_over_the_classes() -> None:
    source, part = opened(kind="digits"), opened(kind="digits", limit=200)
    chosen = listed(part)
    assert len(chosen) == 200 and chosen.items() <= listed(source).items()
    assert min(Counter(chosen.values()).values()) > 8
    assert listed(opened(kind="digits", limit=200)) == chosen
    assert listed(opened(kind="digits", limit=200, seed=1)) != chosen
    assert set(listed(opened(kind="digits", limit=50))) < set(chosen)
    assert part.read(next(part.records())) == source.read(next(part.records()))


def test_a_limit_above_the_number_of_images_takes_all(tmp_path: Path) -> None:
    assert len(listed(opened(classes(tmp_path), limit=99))) == 4


class Numbers(InOnePiece):
    """A source of ids only."""

    def __init__(self, ids: list[int]) -> None:
        self.ids = ids

    def records(self):
        return (Record(str(n), -1, "") for n in self.ids)

    def read(self, record: Record) -> bytes:
        return record.id.encode()

    def digest(self) -> str:
        return digest_of(self.ids)


@settings(max_examples=50, deadline=None)
@given(ids=st.lists(st.integers(), unique=True, min_size=1), limit=st.integers(1, 20), seed=st.integers(0, 9))
def test_a_subset_does_not_depend_on_the_order_and_keeps_it(ids: list[int], limit: int, seed: int) -> None:
    chosen = [record.id for record in Subset(Numbers(ids), limit, seed).records()]
    assert len(chosen) == min(limit, len(ids))
    assert chosen == [str(n) for n in ids if str(n) in chosen]
    assert set(chosen) == {record.id for record in Subset(Numbers(ids[::-1]), limit, seed).records()}


KINDS = ["folder", "unlabelled", "csv", "parquet", "webdataset"]


def any_kind(kind: str, folder: Path) -> Path:
    if kind == "folder":
        return classes(folder)
    if kind == "csv":
        return flat(folder)
    if kind == "parquet":
        return parquet(folder / "p.parquet", label=list(range(5))).parent
    if kind == "webdataset":
        return shard(folder / "s.tar", samples()).parent
    return fill(folder, "a.png", "b.png")


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


def in_pieces(source: Source) -> list[list[Record]]:
    return [list(pickle.loads(pickle.dumps(source)).listed(piece, Found())) for piece in source.pieces()]


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


# --- URIs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_uri_is_the_local_path(tmp_path: Path, kind: str) -> None:
    folder = any_kind(kind, tmp_path)
    assert listed(opened(folder.as_uri())) == listed(opened(folder))


@pytest.mark.parametrize("kind", KINDS)
def test_a_remote_store_gives_the_same_records(tmp_path: Path, kind: str) -> None:
    folder = any_kind(kind, tmp_path)
    memory = fsspec.filesystem("memory")
    memory.put(f"{folder}/", f"/{folder.name}/", recursive=True)
    try:
        local, remote = opened(folder), opened(f"memory://{folder.name}")
        assert listed(remote) == listed(local)
        assert [remote.read(r) for r in remote.records()] == [local.read(r) for r in local.records()]
        assert all(record.location.startswith("memory://") for record in remote.records())
        assert remote.digest() == remote.digest()
    finally:
        memory.rm(f"/{folder.name}", recursive=True)


def test_relative_and_home_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classes(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    expected = list(opened(tmp_path / "data").records())  # absolute locations: a worker runs elsewhere
    assert list(opened("data").records()) == list(opened("~/data/").records()) == expected


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(uri: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("fsspec.core.url_to_fs", absent)
    with pytest.raises(SourceError, match="s3://bucket/x: reading s3:// needs a package that is missing: Install s3fs"):
        opened("s3://bucket/x")


def test_an_unknown_protocol_is_an_error_that_keeps_secrets() -> None:
    with pytest.raises(SourceError, match=r"nope://bucket/x: .*expected a local path or a URI such as s3://") as caught:
        opened("nope://me:secret@bucket/x")
    assert "secret" not in str(caught.value)


# --- what is not there -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["auto", *KINDS])
def test_a_missing_folder_is_an_error(tmp_path: Path, kind: str) -> None:
    with pytest.raises(SourceError, match=r"nowhere does not exist; correct source.path"):
        opened(tmp_path / "nowhere", kind=kind)


EMPTY = {
    "auto": r"looked for labels.csv, .parquet and .tar files, class folders and images .* found none of them",
    "folder": r"expected one folder per class with image files .*, but it holds no files; check source.path",
    "unlabelled": r"expected image files \(.jpg, .*, but it holds no files",
    "csv": r"labels.csv: expected a table of `file,label`, found no such file",
    "parquet": r"expected .parquet files, found none",
    "webdataset": r"expected .tar files, found none",
}


@pytest.mark.parametrize(("kind", "message"), EMPTY.items())
def test_an_empty_folder_is_an_error_that_says_what_was_looked_for(tmp_path: Path, kind: Any, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        list(opened(tmp_path, kind=kind).records())


def test_a_folder_of_other_files_is_an_error_that_names_some(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/notes.txt").write_text("hello")
    with pytest.raises(SourceError, match=r"expected one folder per class .* found only 1 file \(a/notes.txt\)"):
        list(opened(tmp_path, kind="folder").records())


def test_a_file_where_a_folder_is_expected_is_an_error(tmp_path: Path) -> None:
    fill(tmp_path, "a.png")
    with pytest.raises(SourceError, match="expected a folder of images or a .parquet or .tar file, got another file"):
        opened(tmp_path / "a.png")
    with pytest.raises(SourceError, match="a.png is a file; kind folder expects a folder"):
        opened(tmp_path / "a.png", kind="folder")


def test_a_folder_of_several_kinds_must_be_told(tmp_path: Path) -> None:
    fill(classes(tmp_path), "loose.png")
    with pytest.raises(SourceError, match="could be of kind unlabelled or folder: set source.kind to say which"):
        opened(tmp_path)
    assert len(listed(opened(tmp_path, kind="unlabelled"))) == 5


def test_a_folder_without_permission_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, scandir = opened(classes(tmp_path), kind="folder"), os.scandir

    def denied(path: str) -> Any:
        if path.endswith("cat"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)  # a mode of 0 would not stop root
    with pytest.raises(SourceError, match="cat cannot be listed: .*Permission denied"):
        listed(source)


# --- settings --------------------------------------------------------------------------------------------------------

BAD_SETTINGS: dict[str, tuple[dict[str, Any], str]] = {
    "unknown key": ({"path": "x", "pathh": "y"}, "pathh"),
    "unknown kind": (
        {"path": "x", "kind": "zip"},
        "'auto', 'folder', 'csv', 'unlabelled', 'parquet', 'webdataset' or 'digits'",
    ),
    "no path": ({}, "`path` is needed"),
    "a path for digits": ({"kind": "digits", "path": "x"}, "kind digits is built in and has no path, got 'x'"),
    "no images": ({"path": "x", "limit": 0}, "greater than or equal to 1"),
    "negative seed": ({"path": "x", "seed": -1}, "greater than or equal to 0"),
}


@pytest.mark.parametrize(("said", "message"), BAD_SETTINGS.values(), ids=BAD_SETTINGS)
def test_settings_that_mean_nothing_are_refused(said: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SourceSettings(**said)


@pytest.mark.parametrize("option", ["labels", "file_column", "image_column", "label_column", "id_column"])
def test_options_of_another_kind_are_refused_not_ignored(tmp_path: Path, option: str) -> None:
    with pytest.raises(SourceError, match=f"source.{option} means nothing for kind folder, only for .*(csv|parquet)"):
        opened(classes(tmp_path), kind="folder", **{option: "x"})


def test_every_option_is_described() -> None:
    assert all(field.description for field in SourceSettings.model_fields.values())


# --- real images -----------------------------------------------------------------------------------------------------


@pytest.mark.real
def test_real_images_are_listed_and_decoded(assets: Path) -> None:
    from timm.data.transforms_factory import create_transform

    from pipelines.data.decode import decode

    source = opened(assets / "imagenet_val_600")
    assert len(listed(source)) == 600
    part = Subset(source, 5, 0)
    transform: Any = create_transform((3, 224, 224), normalize=False)
    for record in part.records():
        data = source.read(record)
        expected = transform(Image.open(io.BytesIO(data)).convert("RGB")).numpy()
        np.testing.assert_array_equal(decode(data, transform, max_pixels=10**7), expected)
