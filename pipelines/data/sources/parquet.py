"""Parquet tables with encoded images in a column, also as Hugging Face writes them (a struct of `bytes` and `path`)."""

from __future__ import annotations

import itertools
import json
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.data.sources.record import Found, InPieces, Piece, Record, digest_of, id_hash
from pipelines.data.sources.storage import Entry, Storage
from pipelines.errors import SourceError

IMAGE_COLUMNS = ("image", "bytes")
_BATCH = 32  # rows read ahead while images are fetched
_LISTED = 4096  # rows per step while ids and labels are listed


class Columns(NamedTuple):
    """The columns of one file in use; None where there is none."""

    image: str
    label: str | None
    id: str | None


@dataclass(frozen=True)
class ParquetSource(InPieces):
    """Rows of one Parquet file or of all below a folder. The id is the id column's, else `file.parquet#row`.

    Reading row after row streams the file: at most 32 images are held.
    """

    repeats: ClassVar[bool] = True

    storage: Storage
    image_column: str | None = None
    label_column: str | None = None
    id_column: str | None = None
    _cursor: list[_Cursor] = field(default_factory=list, repr=False, compare=False)

    def class_names(self) -> list[str] | None:
        """The names that Hugging Face's `datasets` wrote beside the label column, from the first file."""
        path = self._files()[0].path
        label = self._columns(path).label
        with _opened(self.storage, path) as file:
            metadata = (file.schema_arrow.metadata or {}).get(b"huggingface")
        try:
            names = json.loads(metadata or b"{}")["info"]["features"][label]["names"]
        except (ValueError, KeyError, TypeError):
            return None
        return [str(name) for name in names] if isinstance(names, list) and names else None

    def pieces(self) -> list[Piece]:
        return [Piece(entry.path) for entry in self._files()]

    def listed(self, piece: Piece, found: Found) -> Iterator[Record]:
        return self._rows(piece.path)

    def accept(self, found: Found) -> None:
        if not found.images:
            raise SourceError(f"{self.storage.shown}: expected Parquet rows with images, got tables without rows")
        self._check_unique(found.hashes)

    def read(self, record: Record) -> bytes:
        if record.row is None:
            raise OSError("expected the row of a Parquet file, got none")
        cursor = self._cursor[0] if self._cursor else None
        if cursor is None or cursor.location != record.location or cursor.row > record.row:
            cursor = self._open_cursor(record.location)
        return _image_bytes(cursor.value(record.row))

    def digest(self) -> str:
        # Rows change only with their file, so files are compared, not rows.
        files = ([self.storage.relative(entry.path), *self.storage.version(entry)] for entry in self._files())
        columns = ["parquet", self.image_column, self.label_column, self.id_column]
        return digest_of(itertools.chain([columns], files))

    def _open_cursor(self, location: str) -> _Cursor:
        path = self.storage.path_of(location)
        try:
            cursor = _Cursor(self.storage, location, path, self._columns(path).image)
        except SourceError as error:
            raise OSError(str(error)) from error
        for old in self._cursor:
            old.close()
        self._cursor[:] = [cursor]
        return cursor

    def _files(self) -> list[Entry]:
        if self.storage.kind() == "file":
            return [Entry(self.storage.root, False)]
        files = [entry for entry in self.storage.files() if is_parquet_name(entry.path)]
        if not files:
            raise SourceError(f"{self.storage.shown}: expected .parquet files, found none; check source.path")
        return files

    def _rows(self, path: str) -> Iterator[Record]:
        columns = self._columns(path)
        location, row = self.storage.location(path), 0
        name = self.storage.relative(path) or path.rsplit("/", 1)[-1]
        with _opened(self.storage, path) as file:
            wanted = [column for column in (columns.label, columns.id) if column]
            for batch in file.iter_batches(_LISTED, columns=wanted):
                labels = _labels(batch, columns.label, location)
                ids = batch.column(columns.id).to_pylist() if columns.id else itertools.repeat("")
                for label, id_ in zip(labels, ids, strict=False):
                    yield Record(_id(id_, name, row, columns.id), label, location, row)
                    row += 1

    def _columns(self, path: str) -> Columns:
        """Choose the columns of one file. Raises SourceError naming what is there."""
        with _opened(self.storage, path) as file:
            schema = file.schema_arrow
        image = self.image_column or next((name for name in IMAGE_COLUMNS if name in schema.names), None)
        label = self.label_column or ("label" if "label" in schema.names else None)
        id_ = self.id_column or ("id" if "id" in schema.names else None)
        where = f"{self.storage.location(path)} has the columns {', '.join(schema.names)}"
        if image is None:
            raise SourceError(f"{where}; expected one of {' or '.join(IMAGE_COLUMNS)}: name it in source.image_column")
        for setting, name in (("image_column", image), ("label_column", label), ("id_column", id_)):
            if name is not None and name not in schema.names:
                raise SourceError(f"{where}; expected {name!r}: correct source.{setting}")
        if not _holds_bytes(schema.field(image).type):
            column = f"{image!r} is {schema.field(image).type}"
            raise SourceError(f"{where}; {column}, expected encoded images (binary, or a struct with `bytes`)")
        if label and not pa.types.is_integer(schema.field(label).type):
            raise SourceError(f"{where}; {label!r} is {schema.field(label).type}, expected class numbers (integers)")
        return Columns(image, label, id_)

    def _check_unique(self, hashes: array[int]) -> None:
        ordered = np.sort(np.frombuffer(hashes, dtype=np.uint64))
        suspects = set(ordered[1:][ordered[1:] == ordered[:-1]].tolist())
        if not suspects:
            return
        seen: set[str] = set()
        for record in (record for entry in self._files() for record in self._rows(entry.path)):
            if record.id in seen:
                raise SourceError(
                    f"{self.storage.shown}: the id {record.id!r} occurs twice, again in row {record.row} of "
                    f"{record.location}; ids must be unique: choose another source.id_column"
                )
            if id_hash(record.id) in suspects:  # two ids may share a hash by chance
                seen.add(record.id)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cursor": []}  # an open file stays where it is

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)


class _Cursor:
    """Walks forward through the images of one file, a few rows at a time."""

    def __init__(self, storage: Storage, location: str, path: str, column: str) -> None:
        self.location, self.row = location, 0
        self._batch: pa.Array | None = None
        self._open = _opened(storage, path)
        file = self._open.__enter__()
        self._batches = file.iter_batches(_BATCH, columns=[column])

    def value(self, row: int) -> Any:
        """The cell of `row`, which must not lie before the last one asked for. Raises OSError."""
        while self._batch is None or row >= self.row + len(self._batch):
            self.row += len(self._batch) if self._batch is not None else 0
            self._batch = self._next(row)
        return self._batch[row - self.row].as_py()

    def _next(self, row: int) -> pa.Array:
        try:
            return next(self._batches).column(0)
        except StopIteration:
            raise OSError(f"row {row} is not in the file, which ends at row {self.row}") from None
        except pa.ArrowException as error:
            raise OSError(f"row {row} cannot be read: {error}") from error

    def close(self) -> None:
        self._open.__exit__(None, None, None)


@contextmanager
def _opened(storage: Storage, path: str) -> Iterator[pq.ParquetFile]:
    """The file opened for streaming; what is no Parquet raises SourceError."""
    try:
        # Without read-ahead, or a whole column of images would be held at once.
        with storage.fs.open(path, "rb") as stream:
            yield pq.ParquetFile(stream, pre_buffer=False, buffer_size=1 << 20)
    except (pa.ArrowInvalid, OSError) as error:
        raise SourceError(f"{storage.location(path)} cannot be read as Parquet: {error}") from error


def is_parquet_name(path: str) -> bool:
    name = path.rsplit("/", 1)[-1].lower()
    return name.endswith((".parquet", ".pq")) and not name.startswith("_")


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and _holds_bytes(kind.field("bytes").type)
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)


def _image_bytes(cell: Any) -> bytes:
    data = cell.get("bytes") if isinstance(cell, dict) else cell
    if data is None:
        path = cell.get("path") if isinstance(cell, dict) else None
        raise OSError(f"the table names the file {path} instead of holding its bytes" if path else "no bytes (null)")
    return data


def _labels(batch: pa.RecordBatch, column: str | None, location: str) -> list[int]:
    if column is None:
        return [-1] * batch.num_rows
    labels = [-1 if label is None else int(label) for label in batch.column(column).to_pylist()]
    if labels and min(labels) < -1:
        raise SourceError(f"{location}: {column!r} holds {min(labels)}; expected 0, 1, …, or -1 for unknown")
    return labels


def _id(value: Any, name: str, row: int, column: str | None) -> str:
    if column is None:
        return f"{name}#{row}"
    if value is None or value == "":
        raise SourceError(f"{name}: the id in row {row} is empty; choose another source.id_column")
    return str(value)
