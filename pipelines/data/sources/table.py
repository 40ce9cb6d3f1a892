"""A folder of images with a table `file,label[,…]`; what has no counterpart is never lost silently.

Cells are separated by commas, semicolons, tabs or bars, as the header says; labels are class numbers or wnids.
"""

from __future__ import annotations

import csv
import io
import itertools
import posixpath
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from pipelines.data.sources.folder import is_image_name, name_some
from pipelines.data.sources.labels import Labels, class_number
from pipelines.data.sources.record import NAMED, InOnePiece, Record, digest_of
from pipelines.data.sources.storage import Entry, Storage
from pipelines.errors import SourceError

FILE_COLUMN, LABEL_COLUMN = "file", "label"
WNID = re.compile(r"n\d{8}")
_SEPARATORS = ",;\t|"
# What other programs call these columns: proposed where the expected ones are missing, never taken unasked.
_OFTEN = {
    "file_column": ("filename", "file_name", "image", "image_path", "path", "filepath", "file_path", "name", "img"),
    "label_column": ("class", "target", "class_id", "label_id", "category", "class_index", "y", "wnid", "synset"),
}
WITHOUT_TABLE = "where class folders or nothing say the labels, set source.kind=auto and source.labels=null"
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
    file_column: str | None = None

    def class_names(self) -> list[str] | None:
        """The wnids of the label column, sorted, where it holds wnids."""
        labels = (text.strip() for _, _, text in self._rows())
        first = next((text for text in labels if text), "")
        if not WNID.fullmatch(first):
            return None
        return sorted({first, *(text for text in labels if WNID.fullmatch(text))})

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
        extra, extra_names, matched = 0, [], False
        for entry in self.storage.files():
            name = self.storage.relative(entry.path)
            if labels.take(name) is not None:
                matched = True
            elif self._needs_row(entry):
                extra += 1
                extra_names += [name] if extra <= NAMED else []
        names, missing = labels.first_left(NAMED)
        labels.put_back()
        problems = [f"lists {name_some(names, missing)} that are not in {self.storage.shown}"] if missing else []
        problems += [f"does not list {name_some(extra_names, extra)} of {self.storage.shown}"] if extra else []
        if problems:
            raise SourceError(
                f"{self.table.shown} {' and '.join(problems)}; correct the table or the folder, "
                "or set source.unmatched: skip to have them as error rows" + ("" if matched else f"; {WITHOUT_TABLE}")
            )

    def _needs_row(self, entry: Entry) -> bool:
        return is_image_name(entry.path) and entry.path != self.table.root

    def _fill(self, labels: Labels) -> None:
        """File names and labels, in the table's order. Raises SourceError naming the line."""
        names, rows = self.class_names(), 0
        numbers = None if names is None else {name: number for number, name in enumerate(names)}
        for line, file, text in self._rows():
            name = posixpath.normpath(file.strip()) if file.strip() else ""
            if not name:
                raise SourceError(f"{self.table.shown}, line {line}: the file name is empty")
            if not labels.add(name, self._label(text.strip(), numbers, line)):
                raise SourceError(f"{self.table.shown}, line {line}: {name} is listed twice; ids must be unique")
            rows += 1
        if not rows:
            raise SourceError(f"{self.table.shown}: expected rows of `file,label`, got none")

    def _label(self, text: str, numbers: dict[str, int] | None, line: int) -> int:
        where = f"{self.table.shown}, line {line}"
        if numbers is None:
            return class_number(text, where)
        if text in numbers:
            return numbers[text]
        if text in ("", "-1"):
            return -1
        raise SourceError(f"{where}: expected a wnid as in the rows above, or -1 for unknown, got {text!r}")

    def _rows(self) -> Iterator[tuple[int, str, str]]:
        """Line number, file name and label of every row, after checking the header."""
        with self._text() as text:
            head, lines = self._head(text)
            separator = self._separator(head)
            reader = csv.reader(itertools.chain([head], text), delimiter=separator, skipinitialspace=True)
            try:
                header = [name.strip() for name in next(reader, [])]
                file, label = (header.index(column) for column in self._columns(header))
                for row in reader:
                    if not row:
                        continue  # an empty line
                    line = reader.line_num + lines
                    if len(row) != len(header):
                        raise SourceError(f"{self.table.shown}, line {line}: expected {len(header)} cells")
                    yield line, row[file], row[label]
            except csv.Error as error:
                where = f"{self.table.shown}, line {reader.line_num + lines}"
                raise SourceError(f"{where}: not CSV: {error}") from error

    def _head(self, text: io.TextIOWrapper) -> tuple[str, int]:
        """The line of column names, and how many lines stand above it (Excel may name the separator first)."""
        first = text.readline()
        return (text.readline(), 1) if re.fullmatch(r"sep=.\r?\n?", first) else (first, 0)

    def _separator(self, head: str) -> str:
        """The one that shows the columns looked for, else the one that makes most cells; the same each time."""

        def cells(separator: str) -> tuple[int, int]:
            try:
                names = [
                    name.strip() for name in next(csv.reader([head], delimiter=separator, skipinitialspace=True), [])
                ]
            except csv.Error:
                return 0, 0
            return sum(column in names for column in self._wanted().values()), len(names)

        return max(_SEPARATORS, key=cells)  # of equals the first

    def _wanted(self) -> dict[str, str]:
        """The columns looked for by the option that names them."""
        return {"file_column": self.file_column or FILE_COLUMN, "label_column": self.label_column or LABEL_COLUMN}

    def _columns(self, header: list[str]) -> list[str]:
        wanted = self._wanted()
        missing = {option: column for option, column in wanted.items() if column not in header}
        if missing:
            got = ", ".join(header) or "none"
            what = " and ".join(f"a column {column!r}" for column in missing.values())
            raise SourceError(f"{self.table.shown}: expected {what}, got {got}; {_how_to_name(missing, header)}")
        return list(wanted.values())

    @contextmanager
    def _text(self) -> Iterator[io.TextIOWrapper]:
        try:
            with self.table.stream() as stream, io.TextIOWrapper(stream, "utf-8-sig", newline="") as text:
                yield text  # Excel writes a mark, which utf-8-sig takes away
        except OSError as error:
            raise SourceError(f"{self.table.shown}: {error}; expected a table of `file,label`") from error
        except UnicodeDecodeError as error:
            raise SourceError(f"{self.table.shown}: expected UTF-8 text: {error}; save the table as UTF-8") from error


def _how_to_name(missing: dict[str, str], header: list[str]) -> str:
    """How the columns that are there can be used."""
    if any(is_image_name(name) for name in header):
        return "its first line must name the columns, e.g. file,label"
    lower = {name.lower(): name for name in header}
    found = {option: next((lower[often] for often in _OFTEN[option] if often in lower), "NAME") for option in missing}
    sets = " ".join(f"--set source.{option}={name}" for option, name in found.items())
    return f"name {'it' if len(missing) == 1 else 'them'} with {sets}"
