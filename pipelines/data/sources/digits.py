"""The built-in images: scikit-learn's handwritten digits, handed out as PNG bytes like any other source."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from PIL import Image

from pipelines.data.sources.record import InOnePiece, Record
from pipelines.digits import data


@dataclass(frozen=True)
class DigitsSource(InOnePiece):
    """One split of the digits; ids are `digit-0000` …"""

    split: data.Split = "held_out"

    def records(self) -> Iterator[Record]:
        for row, (id_, label) in enumerate(zip(self._digits.ids, self._digits.labels, strict=True)):
            yield Record(id_, int(label), f"scikit-learn digits, {self.split}", row)

    def read(self, record: Record) -> bytes:
        if record.row is None or not 0 <= record.row < len(self._digits.ids):
            raise OSError(f"there is no image {record.row} in the digits split {self.split}")
        encoded = io.BytesIO()
        Image.fromarray(self._digits.images[record.row]).save(encoded, format="PNG")
        return encoded.getvalue()

    def digest(self) -> str:
        content = hashlib.sha256(self._digits.images.tobytes() + self._digits.labels.tobytes())
        content.update(" ".join(self._digits.ids).encode())
        return content.hexdigest()

    @cached_property
    def _digits(self) -> data.Digits:
        return data.load(self.split)

    def __getstate__(self) -> dict[str, Any]:
        return {"split": self.split}  # the images are made again where they are read

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
