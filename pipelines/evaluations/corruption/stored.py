"""Images that were corrupted and stored by others, as ImageNet-C is published: KIND/SEVERITY/CLASS/FILE.

They are files of the size a model reads, and are decoded as they are: neither resized nor cropped again.
"""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Sequence
from functools import cached_property

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pipelines.data.decode import decode
from pipelines.data.sources.folder import is_image_name, name_some
from pipelines.data.sources.storage import Storage
from pipelines.errors import DecodeError, SourceError

_MAX_PIXELS = 100_000_000  # a file of another size is refused by name; one of this size is not even decoded


class StoredImages:
    """Files of an image set at each corruption and severity, found by the ids of its images.

    A file belongs to an image when their paths agree without suffix; where none does, when their names do, which then
    have to be unique: ImageNet's are. All corruptions are taken to hold the same files as the first.
    """

    def __init__(self, uri: str, kinds: Sequence[str], severities: Sequence[int], size: tuple[int, int]) -> None:
        """`size` is (H,W) in pixels. Raises SourceError for an unknown protocol."""
        self.storage, self.kinds, self.severities, self.size = Storage.open(uri), kinds, severities, size

    def check(self, ids: Collection[str]) -> None:
        """Raises SourceError when a folder, or a file of an image in `ids`, is missing or the first of another size."""
        if self.storage.kind() != "directory":
            raise SourceError(f"corruption.stored: {self.storage.shown} is no folder; correct it")
        for kind in self.kinds:
            for severity in self.severities:
                if self.storage.at(self._folder(kind, severity)).kind() != "directory":
                    raise SourceError(
                        f"corruption.stored: {self.storage.shown} has no folder {kind}/{severity}; expected "
                        "CORRUPTION/SEVERITY/CLASS/FILE as in ImageNet-C; name what there is in corruption.names and "
                        "corruption.severities"
                    )
        missing = sorted(id_ for id_ in ids if self._place(id_) is None)
        if missing:
            raise SourceError(
                f"corruption.stored: of {len(ids)} images {name_some(missing)} have none in {self.storage.shown} under "
                "the same path or a unique name without suffix; give the folder of the same images"
            )
        self.images(self.kinds[0], self.severities[0], [min(ids)])

    def images(self, kind: str, severity: int, ids: Sequence[str]) -> Tensor:
        """The images of `ids` as stored, uint8 (n,3,H,W). Raises SourceError for one that is not there or damaged."""
        return torch.stack([self._image(f"{self._folder(kind, severity)}/{self._place(id_)}") for id_ in ids])

    def _image(self, path: str) -> Tensor:
        location = self.storage.location(path)
        try:
            pixels = decode(self.storage.read(location), _as_it_is, max_pixels=_MAX_PIXELS)
        except (OSError, DecodeError) as error:
            raise SourceError(f"corruption.stored: {location}: {error}") from error
        if pixels.shape[1:] != self.size:
            (height, width), (own_height, own_width) = pixels.shape[1:], self.size
            raise SourceError(
                f"corruption.stored: {location} is {height}×{width} pixels, the model reads {own_height}×{own_width}; "
                "stored corruptions are not resized: leave corruption.stored out for this model"
            )
        return torch.from_numpy(pixels)

    def _folder(self, kind: str, severity: int) -> str:
        return self.storage.join(f"{kind}/{severity}")

    def _place(self, id_: str) -> str | None:
        """Path of an image's file below a corruption and severity; None where there is none."""
        place = _without_suffix(id_)
        return self._places.get(place) or self._names.get(posixpath.basename(place))

    @cached_property
    def _places(self) -> dict[str, str]:
        first = self.storage.at(self._folder(self.kinds[0], self.severities[0]))
        paths = [first.relative(entry.path) for entry in first.files() if is_image_name(entry.path)]
        return {_without_suffix(path): path for path in paths}

    @cached_property
    def _names(self) -> dict[str, str | None]:
        """Paths by name without suffix; None for names that occur more than once."""
        found: dict[str, str | None] = {}
        for place, path in self._places.items():
            name = posixpath.basename(place)
            found[name] = None if name in found else path
        return found


def _as_it_is(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def _without_suffix(path: str) -> str:
    return posixpath.splitext(path)[0]
