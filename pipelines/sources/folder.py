"""Folders of image files: one folder per class, or images without labels."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from dataclasses import dataclass

from pipelines.errors import SourceError
from pipelines.sources.record import Record, digest_of
from pipelines.sources.storage import Entry, Storage

# Also names of images that `decode` refuses (.heic, .svg …): they shall become error rows, not disappear.
IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".gif", ".bmp", ".dib", ".webp", ".tif", ".tiff"}
    | {".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".avif", ".ico"}
    | {".heic", ".heif", ".svg", ".psd", ".eps", ".tga", ".raw", ".dng", ".cr2", ".nef", ".arw", ".jxl", ".exr", ".hdr"}
)
SUFFIXES_SHOWN = ".jpg, .jpeg, .png, .webp, .gif, .bmp, .tif …"
NAMED = 3  # how many file names an error shows

_log = logging.getLogger(__name__)


def is_image_name(path: str) -> bool:
    name = path.rsplit("/", 1)[-1]
    return "." in name and "." + name.rsplit(".", 1)[1].lower() in IMAGE_SUFFIXES


def name_some(names: list[str], count: int | None = None) -> str:
    """`3 files (a, b, …)`: how many, and the first few."""
    count = len(names) if count is None else count
    return f"{count} file{'s' if count != 1 else ''} ({', '.join(names[:NAMED])}{', …' if count > NAMED else ''})"


@dataclass(frozen=True)
class FolderSource:
    """Image files below a folder; the id of an image is its path below that folder.

    With `classes`, each subfolder is a class and its label is its place among the sorted names (for ImageNet's wnid
    folders that is timm's class order); images may lie deeper inside. Without, all labels are -1.
    """

    storage: Storage
    classes: bool

    def records(self) -> Iterator[Record]:
        for entry, label in self._images():
            yield Record(self.storage.relative(entry.path), label, self.storage.location(entry.path))

    def read(self, record: Record) -> bytes:
        return self.storage.read(record.location)

    def digest(self) -> str:
        images = ([self.storage.relative(e.path), label, *self.storage.version(e)] for e, label in self._images())
        return digest_of(itertools.chain([["folder", self.classes]], images))

    def _images(self) -> Iterator[tuple[Entry, int]]:
        count, others, other_names = 0, 0, []
        for entry, label in self._files():
            if is_image_name(entry.path):
                count += 1
                yield entry, label
            else:
                others += 1
                other_names += [self.storage.relative(entry.path)] if others <= NAMED else []
        if not count:
            raise SourceError(self._nothing(others, other_names))
        if others:
            _log.warning("%s: left out %s: not named as images", self.storage.shown, name_some(other_names, others))

    def _files(self) -> Iterator[tuple[Entry, int]]:
        if not self.classes:
            yield from ((entry, -1) for entry in self.storage.files())
            return
        entries = self.storage.entries()
        loose = [self.storage.relative(entry.path) for entry in entries if _is_image_file(entry)]
        if loose:
            raise SourceError(
                f"{self.storage.shown}: {name_some(loose)} lie beside the class folders and have no class; "
                "move them into one, or use kind: unlabelled"
            )
        yield from ((entry, -1) for entry in entries if not entry.is_folder)
        folders = [entry for entry in entries if entry.is_folder]
        for label, folder in enumerate(folders):
            yield from ((entry, label) for entry in self.storage.files(folder.path))

    def _nothing(self, others: int, other_names: list[str]) -> str:
        looked_for = "one folder per class with image files" if self.classes else "image files"
        beside = f", found only {name_some(other_names, others)}" if others else ", but it holds no files"
        return f"{self.storage.shown}: expected {looked_for} ({SUFFIXES_SHOWN}){beside}; check source.path"


def _is_image_file(entry: Entry) -> bool:
    return not entry.is_folder and is_image_name(entry.path)
