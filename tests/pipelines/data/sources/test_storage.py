"""Local paths, file URIs and remote stores give the same records."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest

from pipelines.errors import SourceError
from tests.pipelines.data.sources.made import KINDS, any_kind, classes, listed, opened


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
