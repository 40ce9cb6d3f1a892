"""Labels as they are written, and the rows of a table of them, in a database on disk while a source is listed: memory
does not grow with them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from pipelines.errors import SourceError

_LARGEST = 1 << 63


def class_number(text: str, where: str) -> int:
    """The label that a text says, -1 for none. Raises SourceError, which begins with `where`."""
    try:
        label = int(text.strip() or -1)
    except ValueError:
        label = -2
    if not -1 <= label < _LARGEST:
        raise SourceError(f"{where}: expected a class number 0, 1, …, or -1 for unknown, got {text.strip()[:40]!r}")
    return label


class Labels:
    """Names and their labels, in the order they were added; a name can be taken once. Use as a context manager."""

    def __init__(self) -> None:
        # Without a name SQLite keeps it in a temporary file of its own, removed when it is closed or its process ends.
        self._rows = sqlite3.connect("", isolation_level=None)
        self._rows.execute(
            "CREATE TABLE labels (place INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, label INTEGER NOT NULL, "
            "taken INTEGER NOT NULL DEFAULT 0)"
        )
        self._rows.execute("BEGIN")  # never committed: no other connection reads it

    def __enter__(self) -> Labels:
        return self

    def __exit__(self, *_: object) -> None:
        self._rows.close()

    def add(self, name: str, label: int) -> bool:
        """False when the name is there already."""
        try:
            self._rows.execute("INSERT INTO labels (name, label) VALUES (?, ?)", (name, label))
        except sqlite3.IntegrityError:
            return False
        return True

    def take(self, name: str) -> int | None:
        """Label of a name that is there and was not taken yet, else None."""
        found = self._rows.execute("SELECT place, label FROM labels WHERE name = ? AND NOT taken", (name,)).fetchone()
        if found is None:
            return None
        self._rows.execute("UPDATE labels SET taken = 1 WHERE place = ?", found[:1])
        return found[1]

    def put_back(self) -> None:
        """As if none had been taken."""
        self._rows.execute("UPDATE labels SET taken = 0")

    def left(self) -> Iterator[tuple[str, int]]:
        """Names that were not taken, and their labels, in order."""
        yield from self._rows.execute("SELECT name, label FROM labels WHERE NOT taken ORDER BY place")

    def first_left(self, count: int) -> tuple[list[str], int]:
        """The first few names that were not taken, sorted, and how many there are."""
        rows = self._rows.execute("SELECT name FROM labels WHERE NOT taken ORDER BY name LIMIT ?", (count,)).fetchall()
        total = self._rows.execute("SELECT count(*) FROM labels WHERE NOT taken").fetchone()[0]
        return [name for (name,) in rows], total
