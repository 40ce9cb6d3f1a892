"""What every source gives: records, also piece by piece, and the bytes of a record."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

NAMED = 3  # how many file names an error shows


@dataclass(frozen=True)
class Record:
    """One image: a unique `id`, its `label` (-1 unknown), and where its bytes are (`row` inside a table, else None)."""

    id: str
    label: int
    location: str
    row: int | None = None


@dataclass(frozen=True)
class Piece:
    """A part of a source that is listed by itself, on any node: a folder, or a file.

    With `until` it is the files themselves that lie beside one another from `path` to there. Images in it have `label`.
    """

    path: str
    label: int = -1
    until: str | None = None


@dataclass
class Found:
    """What listing found besides the records, on which all pieces together are judged."""

    images: int = 0
    others: int = 0
    other_names: list[str] = field(default_factory=list)
    """The first few of the files left out."""
    hashes: array[int] = field(default_factory=lambda: array("Q"))
    """Of all ids, where some may occur twice."""

    def leave_out(self, name: str) -> None:
        self.others += 1
        self.other_names += [name] if len(self.other_names) < NAMED else []

    def add(self, later: Found) -> None:
        self.images += later.images
        self.others += later.others
        self.other_names = [*self.other_names, *later.other_names][:NAMED]
        self.hashes.extend(later.hashes)


class Source(Protocol):
    """A listing of images. Picklable: a worker calls `read` on its own copy."""

    repeats: ClassVar[bool]
    """Whether an id may occur in two pieces, which `accept` then refuses."""

    def pieces(self) -> list[Piece]:
        """Parts that can be listed apart, found quickly; in order their records are `records`. Raises SourceError."""
        ...

    def listed(self, piece: Piece, found: Found) -> Iterator[Record]:
        """The records of one piece; what is left out is noted in `found`. Raises SourceError."""
        ...

    def accept(self, found: Found) -> None:
        """Judge the whole listing: warn of what was left out. Raises SourceError when it cannot be used."""
        ...

    def class_names(self) -> list[str] | None:
        """What the labels number, where classes have names (folders, wnids, features): label i is the i-th.

        None where labels are class numbers as they stand. Raises SourceError.
        """
        ...

    def records(self) -> Iterator[Record]:
        """All records, streamed, in the same order each time. Raises SourceError."""
        ...

    def read(self, record: Record) -> bytes:
        """The encoded image. Raises OSError with the reason when it cannot be read."""
        ...

    def digest(self) -> str:
        """Changes when an image is added, removed, renamed, relabelled or rewritten; found without reading pixels."""
        ...


class InPieces(ABC):
    """Base of the sources whose pieces are listed one by one."""

    repeats: ClassVar[bool] = False

    @abstractmethod
    def pieces(self) -> list[Piece]: ...

    @abstractmethod
    def listed(self, piece: Piece, found: Found) -> Iterator[Record]: ...

    @abstractmethod
    def accept(self, found: Found) -> None: ...

    def class_names(self) -> list[str] | None:
        return None

    def records(self) -> Iterator[Record]:
        found = Found()
        for piece in self.pieces():
            for record in self.listed(piece, found):
                found.images += 1
                if self.repeats:
                    found.hashes.append(id_hash(record.id))
                yield record
        self.accept(found)


class InOnePiece:
    """Base of the sources that are listed as a whole, and judge that while they do it."""

    repeats: ClassVar[bool] = False

    def class_names(self) -> list[str] | None:
        return None

    def records(self) -> Iterator[Record]:
        raise NotImplementedError

    def pieces(self) -> list[Piece]:
        return [Piece("")]

    def listed(self, piece: Piece, found: Found) -> Iterator[Record]:
        return self.records()

    def accept(self, found: Found) -> None:
        """`records` did."""


def id_hash(id_: str) -> int:
    return int.from_bytes(hashlib.blake2b(id_.encode(), digest_size=8).digest(), "big")


def digest_of(parts: Iterable[Any]) -> str:
    """SHA-256 of JSON values, streamed."""
    total = hashlib.sha256()
    for part in parts:
        total.update(json.dumps(part, sort_keys=True).encode() + b"\n")
    return total.hexdigest()
