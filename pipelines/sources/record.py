"""What every source gives: records, and the bytes of a record."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Record:
    """One image: a unique `id`, its `label` (-1 unknown), and where its bytes are (`row` inside a table, else None)."""

    id: str
    label: int
    location: str
    row: int | None = None


class Source(Protocol):
    """A listing of images. Picklable: a worker calls `read` on its own copy."""

    def records(self) -> Iterator[Record]:
        """All records, streamed, in the same order each time. Raises SourceError."""
        ...

    def read(self, record: Record) -> bytes:
        """The encoded image. Raises OSError with the reason when it cannot be read."""
        ...

    def digest(self) -> str:
        """Changes when an image is added, removed, renamed, relabelled or rewritten; found without reading pixels."""
        ...


def digest_of(parts: Iterable[Any]) -> str:
    """SHA-256 of JSON values, streamed."""
    total = hashlib.sha256()
    for part in parts:
        total.update(json.dumps(part, sort_keys=True).encode() + b"\n")
    return total.hexdigest()
