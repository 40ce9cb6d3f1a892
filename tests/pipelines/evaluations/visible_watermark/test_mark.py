"""Marks: where they lie, what a logo keeps, and what is no logo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.errors import ConfigError
from pipelines.evaluations.visible_watermark.mark import make_mark
from pipelines.evaluations.visible_watermark.settings import VisibleWatermarkSettings

SIZE = (96, 128)


def extent(alpha: torch.Tensor) -> tuple[int, int, int, int]:
    """First and last row, first and last column that are not transparent."""
    rows, columns = (alpha > 0.02).any(1).nonzero().flatten(), (alpha > 0.02).any(0).nonzero().flatten()
    return int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])


def mark(**given: Any) -> tuple[torch.Tensor, torch.Tensor]:
    return make_mark(VisibleWatermarkSettings(**given), SIZE)


def logo(folder: Path, width: int = 40, height: int = 20) -> str:
    """A red rectangle, its left half opaque, its right half half transparent."""
    pixels = np.zeros((height, width, 4), np.uint8)
    pixels[..., 0], pixels[..., 3] = 255, 255
    pixels[:, width // 2 :, 3] = 128
    Image.fromarray(pixels).save(folder / "logo.png")
    return str(folder / "logo.png")


def test_a_mark_is_colour_and_opacity_in_the_unit_range() -> None:
    colour, alpha = mark()
    assert colour.shape == (3, *SIZE) and alpha.shape == SIZE and colour.dtype == alpha.dtype == torch.float32
    for part in (alpha, colour):
        assert float(part.min()) >= 0 and float(part.max()) == 1
    assert 0.01 < float(alpha.mean()) < 0.5


@pytest.mark.parametrize("scale", [0.3, 0.9])
def test_the_scale_is_the_share_of_the_width(scale: float) -> None:
    _, _, left, right = extent(mark(scale=scale)[1])
    assert right - left + 1 == pytest.approx(scale * SIZE[1], abs=5)
    assert left == pytest.approx(SIZE[1] - 1 - right, abs=3), "in the middle across"


def test_positions() -> None:
    top, middle, bottom = (extent(mark(scale=0.5, position=at)[1])[:2] for at in ("top", "center", "bottom"))
    assert top[0] <= 8 and bottom[1] >= SIZE[0] - 9
    assert middle[0] == pytest.approx(SIZE[0] - 1 - middle[1], abs=3)
    assert top[1] < middle[1] < bottom[1]


@pytest.mark.parametrize("across", ["left", "right"])
@pytest.mark.parametrize("down", ["top", "bottom"])
def test_corners(down: str, across: str) -> None:
    first, last, left, right = extent(mark(scale=0.3, position=f"{down}-{across}")[1])
    assert (first <= 8) == (down == "top") and (last >= SIZE[0] - 9) == (down == "bottom")
    assert (left <= 8) == (across == "left") and (right >= SIZE[1] - 9) == (across == "right")


@pytest.mark.parametrize("across", ["left", "right"])
def test_sides_are_in_the_middle_down(across: str) -> None:
    first, last, left, right = extent(mark(scale=0.3, position=across)[1])
    assert first == pytest.approx(SIZE[0] - 1 - last, abs=3)
    assert (left <= 8) == (across == "left") and (right >= SIZE[1] - 9) == (across == "right")


def test_tiles_reach_every_part_and_none_overlap(tmp_path: Path) -> None:
    _, alpha = mark(logo=logo(tmp_path), scale=0.2, position="tile")
    tile = mark(logo=logo(tmp_path), scale=0.2)[1]
    assert float(alpha.sum()) > 6 * float(tile.sum())
    assert set(alpha.unique().tolist()) >= {0.0, 1.0}, "there is room between them"
    for rows in alpha.split(SIZE[0] // 3):
        for part in rows.split(SIZE[1] // 3, dim=1):
            if min(part.shape) > 20:
                assert float(part.max()) == 1
    middle = extent(tile)
    inside = slice(middle[0], middle[1] + 1), slice(middle[2], middle[3] + 1)
    torch.testing.assert_close(alpha[inside], tile[inside])


def test_opacity_is_that_of_the_whole_mark() -> None:
    colour, alpha = mark(opacity=0.25)
    torch.testing.assert_close(alpha, 0.25 * mark()[1])
    torch.testing.assert_close(colour, mark()[0])


@pytest.mark.parametrize("position", ["top", "center", "bottom"])
def test_a_tall_mark_stays_on_the_canvas(tmp_path: Path, position: str) -> None:
    first, last, left, right = extent(mark(logo=logo(tmp_path, 10, 200), scale=1, position=position)[1])
    assert last - first + 1 == pytest.approx(0.9 * SIZE[0], abs=2)
    assert (right - left + 1) / (last - first + 1) == pytest.approx(10 / 200, abs=0.03), "not squeezed"


def test_a_logo_keeps_its_colour_and_transparency(tmp_path: Path) -> None:
    colour, alpha = mark(logo=logo(tmp_path), scale=0.5)
    first, last, left, right = extent(alpha)
    row, quarter = (first + last) // 2, (right - left + 1) // 4
    assert float(alpha[row, left + quarter]) == 1
    assert float(alpha[row, right - quarter]) == pytest.approx(128 / 255, abs=0.01)
    assert colour[:, row, left + quarter].tolist() == [1, 0, 0]
    assert float(alpha[0].max()) == 0, "nothing beside it"


def test_a_logo_without_transparency_is_opaque(tmp_path: Path) -> None:
    Image.new("L", (8, 8), 200).save(tmp_path / "grey.jpg")
    _, alpha = mark(logo=str(tmp_path / "grey.jpg"), scale=0.5)
    first, last, left, right = extent(alpha)
    assert float(alpha[first + 2 : last - 1, left + 2 : right - 1].min()) == 1


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n" + b"\0" * 40, None])
def test_an_unreadable_logo_is_refused_by_name(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "logo.png"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"^logo: cannot read .*logo.png as a picture: .*; give a PNG file"):
        mark(logo=str(file))


@pytest.mark.parametrize("cut", [60, 200, 400])
def test_a_logo_cut_off_is_refused(tmp_path: Path, cut: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (30, 30, 4), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "whole.png")
    (tmp_path / "logo.png").write_bytes((tmp_path / "whole.png").read_bytes()[:cut])
    with pytest.raises(ConfigError, match="^logo: cannot read"):
        mark(logo=str(tmp_path / "logo.png"))
