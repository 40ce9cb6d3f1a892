"""A mark that was moved or resized is found again, and the p-value pays for the search."""

from __future__ import annotations

import pytest

from nullspace.errors import NullspaceError
from nullspace.watermark.distortions import distorted, distortion_named
from nullspace.watermark.payload.hidden_mark import HiddenMark
from nullspace.watermark.payload.realign import realign, scales_within
from tests.nullspace.watermark.payload.marked import pictures

MESSAGE = b"moved"


def test_a_shift_is_undone(mark: HiddenMark) -> None:
    marked = mark.embed(pictures(1), MESSAGE, psnr=40).images
    moved = distorted(marked, distortion_named("shift_3"))
    assert not mark.detect(moved)[0].found
    found = realign(mark, moved[0], shift=4, length=5, psnr=40)
    assert found.detection.message == MESSAGE and (found.down, found.across, found.readings) == (3, 3, 81)
    assert found.detection.tried == 81 and found.detection.p_value < 1e-9


def test_a_crop_that_was_enlarged_is_undone(mark: HiddenMark) -> None:
    marked = mark.embed(pictures(1), MESSAGE, psnr=36).images
    moved = distorted(marked, distortion_named("crop_0.9375"))  # 120 of 128 pixels
    found = realign(mark, moved[0], shift=1, scales=(1.0, 128 / 120), length=5, psnr=36)
    assert found.detection.message == MESSAGE and found.scale == 128 / 120 and found.readings == 18


def test_scales_are_a_pixel_apart_and_the_nearest_come_first() -> None:
    assert scales_within(224, 0) == [1.0]
    found = scales_within(224, 0.02)
    assert found[0] == 1 and [round(224 / each) for each in sorted(found, reverse=True)] == list(range(220, 229))
    with pytest.raises(NullspaceError, match="0 to 0.5, as a share of the size, got 2"):
        scales_within(224, 2)


def test_a_search_finds_nothing_where_nothing_is(mark: HiddenMark) -> None:
    found = realign(mark, pictures(1)[0], shift=2, scales=(0.98, 1.0))
    assert not found.detection.found and found.detection.p_value > 1e-3 and found.detection.message is None


def test_bad_input_is_refused(mark: HiddenMark) -> None:
    with pytest.raises(NullspaceError, match="one 8-bit image"):
        realign(mark, pictures(1))
    with pytest.raises(NullspaceError, match="got -1"):
        realign(mark, pictures(1)[0], shift=-1)
