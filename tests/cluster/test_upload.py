"""What a job takes along: only what was listed, weighed before anything is sent."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from cluster.errors import UploadError
from cluster.upload import Upload, files_below, weight

MIB = 2**20


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name, encoding="utf-8")


def test_what_is_never_wanted_stays_behind(tmp_path: Path) -> None:
    write(tmp_path, "train.py", "weights/a.pth", ".git/config", ".venv/bin/python", "runs/demo/results.json")
    write(tmp_path, "mlflow.db", "mlflow.db-wal", "deep/__pycache__/a.pyc", ".pytest_cache/x", ".env", ".ssh/id_rsa")
    assert set(files_below(tmp_path)) == {"train.py", "weights/a.pth"}


def test_a_gitignore_hides_nothing_and_nullspaceignore_does(tmp_path: Path) -> None:
    write(tmp_path, "a.pth", "b.pth", "keep/b.pth", "data/1.png", "data/2.png")
    (tmp_path / ".gitignore").write_text("*.pth\n", encoding="utf-8")
    (tmp_path / ".nullspaceignore").write_text("# large\n/b.pth\ndata/*\n!data/1.png\n", encoding="utf-8")
    assert set(files_below(tmp_path)) == {".gitignore", "a.pth", "keep/b.pth", "data/1.png"}


def test_a_link_is_followed_to_a_file_and_refused_to_a_folder(tmp_path: Path) -> None:
    write(tmp_path, "elsewhere/big", "job/a")
    (tmp_path / "job" / "file").symlink_to(tmp_path / "elsewhere" / "big")
    assert set(files_below(tmp_path / "job")) == {"a", "file"}
    (tmp_path / "job" / "folder").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UploadError, match=r"folder in .* is a link to a folder; name it in \.nullspaceignore"):
        files_below(tmp_path / "job")
    (tmp_path / "job" / ".nullspaceignore").write_text("folder/\n", encoding="utf-8")
    assert set(files_below(tmp_path / "job")) == {"a", "file"}


def test_a_broken_link_and_a_folder_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UploadError, match="gone in .* is not a file that can be read"):
        files_below(tmp_path)
    with pytest.raises(UploadError, match="is not a folder"):
        files_below(tmp_path / "gone")


def test_too_much_is_refused_with_the_largest_named(tmp_path: Path) -> None:
    large = tmp_path / "large.pth"
    large.write_bytes(b"")
    with large.open("r+b") as file:
        file.truncate(3 * MIB)  # sparse: it takes no room
    upload = Upload({"small": b"12", "weights/large.pth": large})
    upload.check(limit_mib=3.1)
    with pytest.raises(UploadError) as refused:
        upload.check(limit_mib=2)
    message = str(refused.value)
    assert "would upload 3.0 MiB, the limit is 2 MiB" in message
    assert message.index("weights/large.pth") < message.index("small")
    assert ".nullspaceignore" in message and "absolute" in message and "--upload-limit" in message


def test_the_list_has_every_size_largest_first() -> None:
    upload = Upload({"a": b"1" * 2048, "b": b"22", "c": b""})
    assert [line.split() for line in upload.lines()] == [["2.0", "KiB", "a"], ["2", "B", "b"], ["0", "B", "c"]]
    assert upload.to_dict()["bytes"] == 2050
    assert len({len(weight(size)) for size in (0, 999, 2048, 5 * MIB)}) == 1


def test_a_long_list_is_cut_and_the_rest_counted() -> None:
    lines = list(Upload({f"{number:02}": b"1" for number in range(25)}).lines())
    assert len(lines) == 21 and "5 B" in lines[-1] and "in 5 more files" in lines[-1]


def test_the_archive_holds_exactly_the_files_and_depends_on_nothing_else(tmp_path: Path) -> None:
    write(tmp_path, "one/.gitignore", "one/run.sh", "two/.gitignore", "two/run.sh")
    packed = []
    for folder in ("one", "two"):
        (tmp_path / folder / ".gitignore").write_text("*", encoding="utf-8")
        (tmp_path / folder / "run.sh").write_text("true", encoding="utf-8")
        (tmp_path / folder / "run.sh").chmod(0o755)
        upload = Upload({**files_below(tmp_path / folder), "made.yaml": b"name: a\n"})
        packed.append(upload.pack(tmp_path / f"{folder}.zip"))
    with zipfile.ZipFile(packed[0]) as archive:
        assert archive.namelist() == [".gitignore", "made.yaml", "run.sh"]
        assert archive.read("made.yaml") == b"name: a\n"
        assert [info.external_attr >> 16 for info in archive.infolist()] == [0o644, 0o644, 0o755]
    assert packed[0].read_bytes() == packed[1].read_bytes()
