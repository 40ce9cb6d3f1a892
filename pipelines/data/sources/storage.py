"""Files at a local path or a URI, through fsspec: listed one folder at a time, in a fixed order."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import fsspec.core
import fsspec.utils
from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem
from fsspec.registry import known_implementations

from pipelines.errors import SourceError

# What a remote system may change when a file is rewritten: the first that is there tells two versions apart.
_VERSION_KEYS = ("ETag", "etag", "md5Hash", "LastModified", "last_modified", "mtime", "updated", "created", "CRC")


class Entry(NamedTuple):
    """A file or folder; `info` is what a remote listing has about it, None for a local one."""

    path: str
    is_folder: bool
    info: dict[str, Any] | None = None


@dataclass(frozen=True)
class Storage:
    """A file system and a path in it. `shown` is that path for people, without credentials."""

    fs: AbstractFileSystem
    root: str
    shown: str

    @classmethod
    def open(cls, uri: str) -> Storage:
        """Raises SourceError for an unknown protocol or one whose package is not installed."""
        shown = re.sub(r"://[^/@]*@", "://", uri)
        try:
            # A local name may hold "::", which fsspec would read as a chain of file systems.
            fs, root = _local(uri) if "://" not in uri else fsspec.core.url_to_fs(uri)
        except ImportError as error:
            protocol = fsspec.utils.get_protocol(uri)
            hint = known_implementations.get(protocol, {}).get("err", str(error))
            raise SourceError(f"{shown}: reading {protocol}:// needs a package that is missing: {hint}") from error
        except ValueError as error:
            raise SourceError(f"{shown}: {error}; expected a local path or a URI such as s3://bucket/folder") from error
        return cls(fs, root, shown)

    @property
    def is_local(self) -> bool:
        return isinstance(self.fs, LocalFileSystem)

    def at(self, path: str) -> Storage:
        """The same file system at another of its paths."""
        return Storage(self.fs, path, self.location(path))

    def kind(self) -> str | None:
        """`file`, `directory`, or None when nothing is there. Raises SourceError when that cannot be determined."""
        try:
            return "directory" if self.fs.info(self.root)["type"] == "directory" else "file"
        except (FileNotFoundError, NotADirectoryError):
            return None
        except Exception as error:  # every remote system has exceptions of its own
            raise SourceError(f"{self.shown} cannot be read: {error}; check access and credentials") from error

    def entries(self, folder: str | None = None) -> list[Entry]:
        """What lies directly in `folder`, sorted by name; hidden names and __MACOSX are left out."""
        folder = self.root if folder is None else folder
        try:
            found = _scan(folder) if self.is_local else _list(self.fs, folder)
        except Exception as error:  # every remote system has exceptions of its own
            raise SourceError(f"{self.location(folder)} cannot be listed: {error}") from error
        return sorted((entry for entry in found if _is_visible(entry.path)), key=lambda entry: entry.path)

    def matching(self, pattern: str) -> list[str]:
        """Paths of files that match a pattern with `*`, `?` or `[…]`, sorted."""
        try:
            return sorted(str(path) for path in self.fs.glob(pattern))
        except Exception as error:  # every remote system has exceptions of its own
            raise SourceError(f"{self.location(pattern)} cannot be listed: {error}") from error

    def files(self, folder: str | None = None) -> Iterator[Entry]:
        """All files below `folder`, one folder at a time. Raises SourceError for a folder linked into itself."""
        for entry in self.entries(folder):
            if not entry.is_folder:
                yield entry
                continue
            yield from self.below(entry.path)

    def below(self, folder: str) -> Iterator[Entry]:
        """All files of a folder that was listed. Raises SourceError when it is linked into itself."""
        if self.is_local and _holds_itself(folder):
            raise SourceError(f"{folder} is a link to a folder that holds it; remove the link")
        yield from self.files(folder)

    def relative(self, path: str) -> str:
        """`path` below the root, with forward slashes. Raises SourceError when the name is not valid UTF-8."""
        name = path[len(self.root) :].lstrip("/") if path.startswith(self.root) else path
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise SourceError(f"the file name {os.fsencode(path)!r} is not valid UTF-8; rename the file") from error
        return name

    def join(self, name: str) -> str:
        return f"{self.root.rstrip('/')}/{name}"

    def location(self, path: str) -> str:
        """What names this file outside this object: a path, or a URI."""
        return path if self.is_local else str(self.fs.unstrip_protocol(path))

    def path_of(self, location: str) -> str:
        """The inverse of `location`."""
        return location if self.is_local else str(self.fs._strip_protocol(location))

    def version(self, entry: Entry) -> list[str]:
        """Size and time, or entity tag, of a file; empty strings when it is not there (a broken link)."""
        if self.is_local:
            return _local_version(entry.path)
        info = entry.info or self.fs.info(entry.path)
        return [str(info.get("size", "")), str(next((info[key] for key in _VERSION_KEYS if info.get(key)), ""))]

    def read(self, location: str) -> bytes:
        """All bytes of one file. Raises OSError."""
        self._refuse_pipe(location)
        with _told_as_oserror():
            return bytes(self.fs.cat_file(self.path_of(location)))  # pyright: ignore[reportArgumentType]

    def stream(self) -> Any:
        """The root, which is a file, opened to be read step by step. Raises OSError."""
        self._refuse_pipe(self.location(self.root))
        with _told_as_oserror():
            return self.fs.open(self.root, "rb")

    def _refuse_pipe(self, location: str) -> None:
        if self.is_local and os.path.exists(location) and not os.path.isfile(location):
            raise OSError("not a regular file")  # opening a pipe would wait forever


@contextmanager
def _told_as_oserror() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError("file not found") from error
    except OSError as error:
        raise OSError(f"cannot be read: {error.strerror or error}") from error
    except Exception as error:  # every remote system has exceptions of its own
        raise OSError(f"cannot be read: {type(error).__name__}: {error}") from error


def _local(path: str) -> tuple[AbstractFileSystem, str]:
    fs = LocalFileSystem()
    return fs, str(fs._strip_protocol(path))


def _scan(folder: str) -> list[Entry]:
    # Twenty times cheaper than fsspec's listing, which asks the system about every file.
    with os.scandir(folder) as found:
        return [Entry(f"{folder.rstrip('/')}/{entry.name}", entry.is_dir()) for entry in found]


def _list(fs: AbstractFileSystem, folder: str) -> list[Entry]:
    # Object stores list a folder's own placeholder inside it.
    return [
        Entry(info["name"].rstrip("/"), info["type"] == "directory", info)
        for info in fs.ls(folder, detail=True)
        if info["name"].strip("/") != folder.strip("/")
    ]


def _is_visible(path: str) -> bool:
    name = path.rsplit("/", 1)[-1]
    return not name.startswith(".") and name != "__MACOSX"


def _holds_itself(folder: str) -> bool:
    if not os.path.islink(folder):
        return False
    parent, target = os.path.realpath(os.path.dirname(folder)), os.path.realpath(folder)
    return os.path.commonpath([parent, target]) == target


def _local_version(path: str) -> list[str]:
    try:
        found = os.stat(path)
    except OSError:
        return ["", ""]
    return [str(found.st_size), str(found.st_mtime_ns)]
