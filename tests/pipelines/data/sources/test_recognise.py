"""Paths that are no source, or could be several: the error says what was looked for and found."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import SourceError
from tests.pipelines.data.sources.made import KINDS, classes, fill, listed, opened


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


def test_a_folder_that_could_be_of_several_kinds_is_an_error(tmp_path: Path) -> None:
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
