"""A folder of images with a table `file,label[,…]`; what has no counterpart is never lost silently."""

from __future__ import annotations

import csv
import io
import itertools
import posixpath
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from pipelines.errors import SourceError
from pipelines.sources.folder import is_image_name, name_some
from pipelines.sources.labels import Labels
from pipelines.sources.record import NAMED, InOnePiece, Record, digest_of
from pipelines.sources.storage import Entry, Storage

FILE_COLUMN = "file"
_LARGEST = 1 << 63
NOT_LISTED = -1  # `Record.row` of an image on disk that the table does not name


@dataclass(frozen=True)
class TableSource(InOnePiece):
    """Images below `storage`, labelled by the CSV file `table`; the id of an image is its name in the table.

    `unmatched="error"` raises SourceError for a row without a file or an image without a row. `"skip"` gives both as
    records whose `read` fails with the reason. While listing, the table is copied to a database on disk:
    memory does not grow with it.
    """

    storage: Storage
    table: Storage
    label_column: str | None = None
    unmatched: Literal["error", "skip"] = "error"

    def records(self) -> Iterator[Record]:
        for record, _ in self._matched():
            yield record

    def read(self, record: Record) -> bytes:
        if record.row == NOT_LISTED:
            raise OSError(f"not listed in {self.table.shown.rsplit('/', 1)[-1]}")
        try:
            return self.storage.read(record.location)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"listed in {self.table.shown.rsplit('/', 1)[-1]}, but not on disk") from error

    def digest(self) -> str:
        rows = (
            [record.id, record.label, record.row, *(self.storage.version(entry) if entry else [])]
            for record, entry in self._matched()
        )
        return digest_of(itertools.chain([["csv"]], rows))

    def _matched(self) -> Iterator[tuple[Record, Entry | None]]:
        with Labels() as labels:
            self._fill(labels)
            if self.unmatched == "error":
                self._check(labels)
            for entry in self.storage.files():
                name, location = self.storage.relative(entry.path), self.storage.location(entry.path)
                if (label := labels.take(name)) is not None:
                    yield Record(name, label, location), entry
                elif self._needs_row(entry):
                    yield Record(name, -1, location, NOT_LISTED), entry
            for name, label in labels.left():  # these have no file
                yield Record(name, label, self.storage.location(self.storage.join(name))), None

    def _check(self, labels: Labels) -> None:
        extra, extra_names = 0, []
        for entry in self.storage.files():
            name = self.storage.relative(entry.path)
            if labels.take(name) is None and self._needs_row(entry):
                extra += 1
                extra_names += [name] if extra <= NAMED else []
        names, missing = labels.first_left(NAMED)
        labels.put_back()
        problems = [f"lists {name_some(names, missing)} that are not in {self.storage.shown}"] if missing else []
        problems += [f"does not list {name_some(extra_names, extra)} of {self.storage.shown}"] if extra else []
        if problems:
            raise SourceError(
                f"{self.table.shown} {' and '.join(problems)}; correct the table or the folder, "
                "or set source.unmatched: skip to have them as error rows"
            )

    def _needs_row(self, entry: Entry) -> bool:
        return is_image_name(entry.path) and entry.path != self.table.root

    def _fill(self, labels: Labels) -> None:
        """File names and labels, in the table's order. Raises SourceError naming the line."""
        rows = 0
        for line, row in self._rows():
            name = posixpath.normpath(row[FILE_COLUMN].strip()) if row[FILE_COLUMN].strip() else ""
            if not name:
                raise SourceError(f"{self.table.shown}, line {line}: the file name is empty")
            if not labels.add(name, self._label(row[self.label_column or "label"], line)):
                raise SourceError(f"{self.table.shown}, line {line}: {name} is listed twice; ids must be unique")
            rows += 1
        if not rows:
            raise SourceError(f"{self.table.shown}: expected rows of `file,label`, got none")

    def _label(self, text: str, line: int) -> int:
        try:
            label = int(text.strip() or -1)
        except ValueError:
            label = -2
        if not -1 <= label < _LARGEST:
            raise SourceError(
                f"{self.table.shown}, line {line}: expected a class number 0, 1, …, or -1 for unknown, got {text!r}"
            )
        return label

    def _rows(self) -> Iterator[tuple[int, dict[str, str]]]:
        """Line number and cells of every row, after checking the header."""
        with self._text() as text:
            reader = csv.DictReader(text, skipinitialspace=True)
            try:
                header = [name.strip() for name in reader.fieldnames or []]
                reader.fieldnames = header
                for column in (FILE_COLUMN, self.label_column or "label"):
                    if column not in header:
                        got = ", ".join(header) or "none"
                        raise SourceError(f"{self.table.shown}: expected a column {column!r}, got {got}")
                for row in reader:
                    if None in row or None in row.values():
                        raise SourceError(f"{self.table.shown}, line {reader.line_num}: expected {len(header)} cells")
                    yield reader.line_num, row
            except csv.Error as error:
                raise SourceError(f"{self.table.shown}, line {reader.line_num}: not CSV: {error}") from error

    @contextmanager
    def _text(self) -> Iterator[io.TextIOWrapper]:
        try:
            with self.table.stream() as stream, io.TextIOWrapper(stream, "utf-8-sig", newline="") as text:
                yield text  # Excel writes a mark, which utf-8-sig takes away
        except OSError as error:
            raise SourceError(f"{self.table.shown}: {error}; expected a table of `file,label`") from error
        except UnicodeDecodeError as error:
            raise SourceError(f"{self.table.shown}: expected UTF-8 text: {error}; save the table as UTF-8") from error
