"""Folders of image files: one folder per class, or images without labels."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pipelines.data.sources.record import NAMED, Found, InPieces, Piece, Record, digest_of
from pipelines.data.sources.storage import Entry, Storage
from pipelines.errors import SourceError

# Also names of images that `decode` refuses (.heic, .svg …): they become error rows instead of disappearing.
IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".gif", ".bmp", ".dib", ".webp", ".tif", ".tiff"}
    | {".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".avif", ".ico"}
    | {".heic", ".heif", ".svg", ".psd", ".eps", ".tga", ".raw", ".dng", ".cr2", ".nef", ".arw", ".jxl", ".exr", ".hdr"}
)
_AT_ONCE = 8  # pieces digested side by side: remote folders answer slowly, one after the other
SUFFIXES_SHOWN = ".jpg, .jpeg, .png, .webp, .gif, .bmp, .tif …"

_log = logging.getLogger(__name__)


def is_image_name(path: str) -> bool:
    name = path.rsplit("/", 1)[-1]
    return "." in name and "." + name.rsplit(".", 1)[1].lower() in IMAGE_SUFFIXES


def name_some(names: list[str], count: int | None = None) -> str:
    """`3 files (a, b, …)`: how many, and the first few."""
    count = len(names) if count is None else count
    return f"{count} file{'s' if count != 1 else ''} ({', '.join(names[:NAMED])}{', …' if count > NAMED else ''})"


@dataclass(frozen=True)
class FolderSource(InPieces):
    """Image files below a folder; the id of an image is its path below that folder.

    With `classes`, each subfolder is a class and its label is its place among the sorted names, as in torchvision; what
    that is to a model, `class_names` decides (see `class_numbers`). Images may lie deeper inside. Without, all labels
    are -1.
    """

    storage: Storage
    classes: bool

    def pieces(self) -> list[Piece]:
        """A folder each, and the files that lie between them."""
        entries = self.storage.entries()
        if self.classes:
            self._refuse_loose(entries)
            entries = sorted(entries, key=lambda entry: entry.is_folder)
        pieces: list[Piece] = []
        label = itertools.count()
        for are_folders, run in itertools.groupby(entries, key=lambda entry: entry.is_folder):
            paths = [entry.path for entry in run]
            if are_folders:
                pieces += [Piece(path, next(label) if self.classes else -1) for path in paths]
            else:
                pieces.append(Piece(paths[0], until=paths[-1]))
        return pieces

    def class_names(self) -> list[str] | None:
        if not self.classes:
            return None
        return [self.storage.relative(entry.path) for entry in self.storage.entries() if entry.is_folder]

    def listed(self, piece: Piece, found: Found) -> Iterator[Record]:
        for entry in self._images(piece, found):
            yield Record(self.storage.relative(entry.path), piece.label, self.storage.location(entry.path))

    def accept(self, found: Found) -> None:
        if not found.images:
            raise SourceError(self._nothing(found.others, found.other_names))
        if found.others:
            names = name_some(found.other_names, found.others)
            _log.warning("%s: left out %s: not named as images", self.storage.shown, names)

    def read(self, record: Record) -> bytes:
        return self.storage.read(record.location)

    def digest(self) -> str:
        found = Found()
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            digests = []
            for digest, of_piece in pool.map(self._digest, self.pieces()):
                digests.append(digest)
                found.add(of_piece)
        self.accept(found)
        return digest_of(["folder", self.classes, *digests])

    def _digest(self, piece: Piece) -> tuple[str, Found]:
        found = Found()

        def versions() -> Iterator[list[str]]:
            for entry in self._images(piece, found):
                found.images += 1
                yield [self.storage.relative(entry.path), *self.storage.version(entry)]

        return digest_of(itertools.chain([[piece.label]], versions())), found

    def _images(self, piece: Piece, found: Found) -> Iterator[Entry]:
        for entry in self._files(piece):
            if is_image_name(entry.path):
                yield entry
            else:
                found.leave_out(self.storage.relative(entry.path))

    def _files(self, piece: Piece) -> Iterator[Entry]:
        if piece.until is None:
            yield from self.storage.below(piece.path)
            return
        for entry in self.storage.entries():
            if not entry.is_folder and piece.path <= entry.path <= piece.until:
                yield entry

    def _refuse_loose(self, entries: list[Entry]) -> None:
        loose = [self.storage.relative(entry.path) for entry in entries if _is_image_file(entry)]
        if loose:
            raise SourceError(
                f"{self.storage.shown}: {name_some(loose)} lie beside the class folders and have no class; "
                "move them into one, or use kind: unlabelled"
            )

    def _nothing(self, others: int, other_names: list[str]) -> str:
        looked_for = "one folder per class with image files" if self.classes else "image files"
        beside = f", found only {name_some(other_names, others)}" if others else ", but it holds no files"
        return f"{self.storage.shown}: expected {looked_for} ({SUFFIXES_SHOWN}){beside}; check source.path"


def _is_image_file(entry: Entry) -> bool:
    return not entry.is_folder and is_image_name(entry.path)
