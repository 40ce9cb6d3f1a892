"""From settings to a source: the kind as given, or as recognised by what is at the path."""

from __future__ import annotations

from typing import Any

from pipelines.data.sources import patterns
from pipelines.data.sources.digits import DigitsSource
from pipelines.data.sources.folder import SUFFIXES_SHOWN, FolderSource, is_image_name, name_some
from pipelines.data.sources.parquet import ParquetSource, is_parquet_name
from pipelines.data.sources.record import Source
from pipelines.data.sources.settings import SourceSettings
from pipelines.data.sources.storage import Storage
from pipelines.data.sources.subset import Subset
from pipelines.data.sources.table import WITHOUT_TABLE, TableSource
from pipelines.data.sources.webdataset import WebDatasetSource, is_tar_name
from pipelines.errors import SourceError

LABELS = "labels.csv"
# Options that mean something to one kind only; set for another they would be ignored, so they are refused.
_MEANT_FOR = {
    "labels": ("csv",),
    "file_column": ("csv",),
    "label_column": ("csv", "parquet", "webdataset"),
    "image_column": ("parquet", "webdataset"),
    "id_column": ("parquet",),
}


def open_source(settings: SourceSettings) -> Source:
    """The source the settings describe. Raises SourceError naming the path, what was looked for and what is there."""
    if settings.kind == "digits":
        _refuse_foreign(settings, "digits")
        return _limited(DigitsSource(settings.split), settings)
    storage = Storage.open(settings.path or "")
    remote_braces = not storage.is_local and patterns.has_braces(storage.root)  # not worth a request to a server
    found = None if remote_braces else storage.kind()  # a name may hold brackets or braces itself
    if found is None and patterns.is_pattern(storage.root):
        return _limited(_of_pattern(storage, settings), settings)
    if found is None:
        expected = "a folder of images, a Parquet file or tar shards"
        raise SourceError(f"{storage.shown} does not exist; correct source.path ({expected})")
    kind = _recognised(storage, found, settings) if settings.kind == "auto" else settings.kind
    _refuse_foreign(settings, kind)
    if found == "file" and kind not in ("parquet", "webdataset"):
        raise SourceError(f"{storage.shown} is a file; kind {kind} expects a folder of images: correct source.path")
    return _limited(_of_kind(kind, storage, settings), settings)


def _of_kind(kind: str, storage: Storage, settings: SourceSettings) -> Source:
    if kind == "parquet":
        return ParquetSource(storage, settings.image_column, settings.label_column, settings.id_column)
    if kind == "webdataset":
        return WebDatasetSource(storage, (), settings.image_column, settings.label_column)
    if kind == "csv":
        return TableSource(
            _images_of(storage),
            _table_of(storage, settings),
            settings.label_column,
            settings.unmatched,
            settings.file_column,
        )
    return FolderSource(storage, classes=kind == "folder")


def _of_pattern(storage: Storage, settings: SourceSettings) -> Source:
    """The tar files that a pattern means, which must all be there."""
    if settings.kind not in ("auto", "webdataset") or not is_tar_name(storage.root):
        raise SourceError(
            f"{storage.shown}: a pattern means tar shards and ends in .tar; give kind {settings.kind} a folder instead"
        )
    _refuse_foreign(settings, "webdataset")
    files = _meant(storage)
    missing = [storage.location(path) for path in files if storage.at(path).kind() != "file"]
    if missing or not files:
        raise SourceError(f"{storage.shown}: {name_some(missing)} not there; correct source.path")
    above = patterns.fixed_folder(storage.root)
    return WebDatasetSource(storage.at(above), tuple(files), settings.image_column, settings.label_column)


def _meant(storage: Storage) -> list[str]:
    try:
        names = list(patterns.expand_braces(storage.root))
    except ValueError as error:
        raise SourceError(f"{storage.shown}: {error}; correct source.path") from error
    files: list[str] = []
    for name in names:
        files += storage.matching(name) if patterns.has_wildcard(name) else [name]
    return list(dict.fromkeys(files))


def _limited(source: Source, settings: SourceSettings) -> Source:
    return source if settings.limit is None else Subset(source, settings.limit, settings.seed)


def _refuse_foreign(settings: SourceSettings, kind: str) -> None:
    for option, kinds in _MEANT_FOR.items():
        if getattr(settings, option) is not None and kind not in kinds:
            raise SourceError(
                f"source.{option} means nothing for kind {kind}, only for {' and '.join(kinds)}; "
                "remove it or set source.kind"
            )


def _recognised(storage: Storage, found: str, settings: SourceSettings) -> str:
    if found == "file":
        if is_parquet_name(storage.root):
            return "parquet"
        if is_tar_name(storage.root):
            return "webdataset"
        raise SourceError(f"{storage.shown}: expected a folder of images or a .parquet or .tar file, got another file")
    entries = storage.entries()
    names = {entry.path.rsplit("/", 1)[-1] for entry in entries if not entry.is_folder}
    if settings.labels is not None or LABELS in names:
        return "csv"
    images = any(is_image_name(name) for name in names)
    tables = any(is_parquet_name(name) for name in names)
    shards = any(is_tar_name(name) for name in names)
    inside = _holds_inside(storage) if images + tables + shards < 2 else ""
    kinds = {
        "unlabelled": images,
        "parquet": tables or inside == "parquet",
        "webdataset": shards or inside == "webdataset",
        "folder": inside == "images",
    }
    possible = [kind for kind, fits in kinds.items() if fits]
    if len(possible) == 1:
        return possible[0]
    raise SourceError(_unclear(storage, possible))


def _holds_inside(storage: Storage) -> str:
    """What the first file of use in the subfolders is: `images`, `parquet`, `webdataset`, or nothing."""
    for folder in (entry for entry in storage.entries() if entry.is_folder):
        for entry in storage.files(folder.path):
            if is_image_name(entry.path):
                return "images"
            if is_parquet_name(entry.path):
                return "parquet"
            if is_tar_name(entry.path):
                return "webdataset"
    return ""


def _unclear(storage: Storage, possible: list[str]) -> str:
    if possible:
        return f"{storage.shown} could be of kind {' or '.join(possible)}: set source.kind to say which"
    return (
        f"{storage.shown}: looked for {LABELS}, .parquet and .tar files, class folders and images ({SUFFIXES_SHOWN}), "
        "found none of them; correct source.path"
    )


def _images_of(storage: Storage) -> Storage:
    """Where the table's names start: the folder itself, or its `images` when that is all it holds besides the table."""
    entries = storage.entries()
    folders = [entry for entry in entries if entry.is_folder]
    only_images = [folder.path.rsplit("/", 1)[-1] for folder in folders] == ["images"]
    if only_images and not any(is_image_name(entry.path) for entry in entries):
        return storage.at(folders[0].path)
    return storage


def _table_of(storage: Storage, settings: Any) -> Storage:
    table = storage.at(storage.join(LABELS)) if settings.labels is None else Storage.open(settings.labels)
    if table.kind() != "file":
        remedy = "name the table in source.labels" if settings.labels is None else "correct source.labels"
        raise SourceError(
            f"{table.shown}: expected a table of `file,label`, found no such file; {remedy}, or, {WITHOUT_TABLE}"
        )
    return table
