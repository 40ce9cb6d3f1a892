"""The files that are uploaded with a job: listed one by one, measured, and packed here.

Ray would silently drop files named in a .gitignore. It is therefore given a finished archive: exactly the listed files
are sent. `.nullspaceignore` has the syntax of .gitignore and adds to `IGNORED`.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pathspec import GitIgnoreSpec

from cluster.errors import UploadError

IGNORE_FILE = ".nullspaceignore"
IGNORED = (
    *(".git/", ".venv/", ".venv-*/", "node_modules/", "__pycache__/", "*.pyc", "*.egg-info/", ".*_cache/"),
    *(".hypothesis/", ".DS_Store", "runs/", "mlruns/", "mlflow.db*"),
    *(".env", ".ssh/", ".aws/", ".netrc"),  # secrets: a job's files can be read by anyone with access to the dashboard
)
LIMIT_MIB = 100.0  # largest request to Ray's dashboard
_MIB = 2**20
_OFFENDERS = 5
_SHOWN = 20
_DATE = (1980, 1, 1, 0, 0, 0)  # the same for all: equal files make an equal archive, which Ray sends only once


@dataclass(frozen=True)
class Upload:
    """Files by their path in the job's folder: a file of this machine, or content made here."""

    files: Mapping[str, Path | bytes]

    def sizes(self) -> dict[str, int]:
        """Bytes of every file, largest first."""
        found = {name: len(it) if isinstance(it, bytes) else it.stat().st_size for name, it in self.files.items()}
        return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))

    def check(self, limit_mib: float) -> None:
        """Raise UploadError naming the largest files if all together exceed `limit_mib`."""
        sizes = self.sizes()
        total = sum(sizes.values())
        if total <= limit_mib * _MIB:
            return
        worst = "\n".join(f"  {weight(size)}  {name}" for name, size in list(sizes.items())[:_OFFENDERS])
        raise UploadError(
            f"the job would upload {weight(total).strip()}, the limit is {limit_mib:g} MiB; the largest files:\n"
            f"{worst}\nname them in {IGNORE_FILE}, or put them on storage that every node sees and give their absolute "
            f"paths (--upload-limit raises the limit; Ray itself refuses about {LIMIT_MIB:g} MiB)"
        )

    def lines(self) -> Iterator[str]:
        """The files and their sizes for people: the largest ones, and the number of the others."""
        sizes = self.sizes()
        for name, size in list(sizes.items())[:_SHOWN]:
            yield f"{weight(size)}  {name}"
        rest = list(sizes.values())[_SHOWN:]
        if rest:
            yield f"{weight(sum(rest))}  in {len(rest)} more files (--json lists them)"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON: names with bytes, and their sum."""
        sizes = self.sizes()
        return {"bytes": sum(sizes.values()), "files": [{"name": name, "bytes": size} for name, size in sizes.items()]}

    def pack(self, archive: Path) -> Path:
        """Write the files to a zip that depends only on their names and contents."""
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
            for name, it in sorted(self.files.items()):
                entry = zipfile.ZipInfo(name, _DATE)
                entry.compress_type = zipfile.ZIP_DEFLATED
                runs = isinstance(it, Path) and os.access(it, os.X_OK)
                entry.external_attr = (0o755 if runs else 0o644) << 16
                packed.writestr(entry, it if isinstance(it, bytes) else it.read_bytes())
        return archive


def weight(size: int) -> str:
    """A number of bytes for people, right-aligned."""
    for unit, one in (("MiB", _MIB), ("KiB", 2**10)):
        if size >= one:
            return f"{size / one:7.1f} {unit}"
    return f"{size:7d} B  "


def files_below(folder: Path) -> dict[str, Path]:
    """Every file of a folder that is not ignored, by its path in it. Raises UploadError for what cannot be read."""
    if not folder.is_dir():
        raise UploadError(f"--upload {folder} is not a folder; give the folder whose files the job needs")
    ignored = _ignored(folder)
    return {path.relative_to(folder).as_posix(): path for path in _walk(folder, folder, ignored)}


def _ignored(folder: Path) -> GitIgnoreSpec:
    file = folder / IGNORE_FILE
    own = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    try:
        return GitIgnoreSpec.from_lines([*IGNORED, f"/{IGNORE_FILE}", *own])
    except ValueError as error:
        raise UploadError(f"{file} has a line that is not a pattern: {error}; see `git help ignore`") from error


def _walk(folder: Path, root: Path, ignored: GitIgnoreSpec) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        name = path.relative_to(root).as_posix()
        if ignored.match_file(f"{name}/" if path.is_dir() else name):
            continue
        if path.is_dir() and not path.is_symlink():
            yield from _walk(path, root, ignored)
        elif path.is_file() and os.access(path, os.R_OK):
            yield path
        else:
            what = "a link to a folder" if path.is_dir() else "not a file that can be read"
            raise UploadError(f"{name} in {root} is {what}; name it in {IGNORE_FILE}, or put a copy in its place")
