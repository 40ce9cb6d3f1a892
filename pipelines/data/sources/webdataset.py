"""WebDataset shards: tar files whose members `KEY.jpg`, `KEY.cls`, `KEY.json` … of one key are one sample.

Ray Data and the webdataset package hand out decoded samples of whole shards, in one pass. Here every image is a record
with an id that is listed first and can be read again by itself, so headers are read with `tarfile` and an image from
where its member lies.
"""

from __future__ import annotations

import itertools
import json
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any

from pipelines.data.sources.folder import IMAGE_SUFFIXES
from pipelines.data.sources.labels import class_number
from pipelines.data.sources.record import Found, InPieces, Piece, Record, digest_of
from pipelines.data.sources.storage import Entry, Storage
from pipelines.errors import SourceError

LABEL = "cls"
_NAME = re.compile(r"(?P<key>(?:.*/)?[^/.][^/.]*)\.(?P<ending>[^/]+)")  # as webdataset: up to the first dot
_LONGEST_LABEL = 1 << 20  # bytes of a .cls or .json member that are read


@dataclass
class _Sample:
    """What was found of one key: where its image's header lies, and its label."""

    image: str = ""
    offset: int | None = None
    label: int | None = None
    label_of: str = ""


@dataclass(frozen=True)
class WebDatasetSource(InPieces):
    """Samples of the tar files `files`, or of all below the folder (or the one file) `storage`.

    The id of an image is `shard.tar#key`. The label is the number in its `.cls` member, else `label` of its `.json`,
    else -1. `image_ending` and `label_ending` name other members. A sample without image fails when it is read.
    """

    storage: Storage
    files: tuple[str, ...] = ()
    image_ending: str | None = None
    label_ending: str | None = None
    _open: list[tuple[str, IO[bytes]]] = field(default_factory=list, repr=False, compare=False)

    def pieces(self) -> list[Piece]:
        return [Piece(entry.path) for entry in self._files()]

    def listed(self, piece: Piece, found: Found) -> Iterator[Record]:
        name, location = self._name(piece.path), self.storage.location(piece.path)
        for key, sample in self._samples(piece.path, found).items():
            label = -1 if sample.label is None else sample.label
            yield Record(f"{name}#{key}", label, location, sample.offset)

    def accept(self, found: Found) -> None:
        if not found.images:
            raise SourceError(f"{self.storage.shown}: expected tar files with members such as KEY.jpg and KEY.cls, "
                              "found none in them")  # fmt: skip

    def read(self, record: Record) -> bytes:
        if record.row is None:
            raise OSError("the sample has no image: expected a member such as KEY.jpg or KEY.png")
        stream = self._stream(record.location)
        try:
            stream.seek(record.row)
            with tarfile.open(fileobj=stream, mode="r:") as tar:
                member = tar.next()
                data = tar.extractfile(member) if member and member.isfile() else None
                content = data.read() if data else b""
        except tarfile.TarError as error:
            raise OSError(f"not a member of a tar file any more: {error}; it was changed while it was read") from error
        key = record.id[len(self._name(self.storage.path_of(record.location))) + 1 :]
        if member is None or not member.name.removeprefix("./").startswith(f"{key}."):
            raise OSError("another member lies there now; the tar file was changed while it was read")
        if data is None:
            raise OSError("the member is a link or a folder, not a file")
        if len(content) < member.size:
            raise OSError("the tar file ends inside this member")
        return content

    def digest(self) -> str:
        # Members change only with their file, so files are compared, not members.
        files = ([self._name(entry.path), *self.storage.version(entry)] for entry in self._files())
        return digest_of(itertools.chain([["webdataset", self.image_ending, self.label_ending]], files))

    def _files(self) -> list[Entry]:
        if self.files:
            return [Entry(path, False) for path in self.files]
        if self.storage.kind() == "file":
            return [Entry(self.storage.root, False)]
        files = [entry for entry in self.storage.files() if is_tar_name(entry.path)]
        if not files:
            raise SourceError(f"{self.storage.shown}: expected .tar files, found none; check source.path")
        return files

    def _name(self, path: str) -> str:
        return self.storage.relative(path) or path.rsplit("/", 1)[-1]

    def _samples(self, path: str, found: Found) -> dict[str, _Sample]:
        """All samples of one tar file by key, in order of first appearance. Raises SourceError when it is not whole."""
        samples: dict[str, _Sample] = {}
        where = self.storage.location(path)
        try:
            with self.storage.at(path).stream() as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
                for member in _members(tar):
                    parts = _NAME.fullmatch(member.name.removeprefix("./"))
                    if parts is None or member.isdir():
                        if not member.isdir():
                            found.leave_out(f"{self._name(path)}#{member.name}")
                        continue
                    self._take(samples.setdefault(parts["key"], _Sample()), parts["ending"], tar, member, where)
                _check_end(stream, tar.offset)
        except (tarfile.TarError, EOFError) as error:
            whole = f"after {len(samples)} samples" if samples else "from the start"
            raise SourceError(
                f"{where} is not a whole tar file {whole}: {error}; expected an uncompressed tar: "
                "fetch or write it again"
            ) from error
        except OSError as error:
            raise SourceError(f"{where} cannot be read: {error}") from error
        return samples

    def _take(self, sample: _Sample, ending: str, tar: tarfile.TarFile, member: tarfile.TarInfo, where: str) -> None:
        said = f"{where}#{member.name}"
        if self._is_image(ending):
            if sample.image:
                raise SourceError(
                    f"{said}: a second image of this key beside {sample.image}; keys must be unique in "
                    "a shard, or name the ending of the members to read in source.image_column, e.g. jpg"
                )
            sample.image, sample.offset = member.name, member.offset
        elif ending == (self.label_ending or LABEL):
            if sample.label_of == ending:
                raise SourceError(f"{said}: a second label of this key; keys must be unique in a shard")
            sample.label, sample.label_of = class_number(_text(tar, member), said), ending
        elif ending == "json" and self.label_ending is None and not sample.label_of:
            label = _json_label(_text(tar, member))
            if label is not None:
                sample.label = class_number(str(label), said)

    def _is_image(self, ending: str) -> bool:
        if self.image_ending is not None:
            return ending == self.image_ending.lstrip(".")
        return f".{ending.lower()}" in IMAGE_SUFFIXES

    def _stream(self, location: str) -> IO[bytes]:
        """The file, kept open: images are mostly read in order."""
        if not self._open or self._open[0][0] != location:
            for _, old in self._open:
                old.close()
            opened: Any = self.storage.at(self.storage.path_of(location)).stream()
            self._open[:] = [(location, opened)]
        return self._open[0][1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": []}  # an open file stays where it is

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)


def is_tar_name(path: str) -> bool:
    return path.lower().endswith(".tar")


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Members one after the other; those seen are let go, which `tarfile` would keep."""
    while (member := tar.next()) is not None:
        tar.members.clear()  # pyright: ignore[reportAttributeAccessIssue]
        yield member


def _check_end(stream: IO[bytes], offset: int) -> None:
    # `tarfile` also takes the end of the file, or a damaged header, for the end of the archive.
    stream.seek(offset)
    if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("it is cut off or damaged there")


def _text(tar: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    data = tar.extractfile(member) if member.isfile() else None
    return data.read(_LONGEST_LABEL).decode("utf-8", "replace") if data else ""


def _json_label(text: str) -> Any:
    try:
        said = json.loads(text)
    except ValueError:
        return None
    label = said.get("label") if isinstance(said, dict) else None
    return label if isinstance(label, int) and not isinstance(label, bool) else None
