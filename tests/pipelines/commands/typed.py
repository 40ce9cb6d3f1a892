"""A command as it is typed, what it answers, and a picture with transparent parts for it."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from cluster import cli


class Answer(NamedTuple):
    """Exit code, standard output and standard error of a command."""

    code: int
    out: str
    err: str

    @property
    def rows(self) -> list[dict[str, Any]]:
        return json.loads(self.out)


def typed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: object) -> Answer:
    """Run `nullspace WORDS` in this process."""
    monkeypatch.setattr("sys.argv", ["nullspace", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    printed = capsys.readouterr()
    return Answer(ended.value.code if isinstance(ended.value.code, int) else 0, printed.out, printed.err)


def with_clear_corner(image: Image.Image, height: int, width: int) -> Image.Image:
    """The image in RGBA; its upper left corner, so high and so wide, is transparent."""
    layer = image.convert("RGBA")
    alpha = np.full((image.height, image.width), 255, np.uint8)
    alpha[:height, :width] = 0
    layer.putalpha(Image.fromarray(alpha))
    return layer
