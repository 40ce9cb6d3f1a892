"""Batches that fit: halved when the device's memory is short, begun with what the free memory suggests."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import pytest
import torch

from pipelines.engine.workers.batch_size import BatchSize, fitting, images_in, is_given
from pipelines.evaluations.settings import EvaluationSettings
from tests.pipelines import tiny


def short_above(limit: int, calls: list[int]):
    def work(batch: Sequence[int]) -> list[int]:
        calls.append(len(batch))
        if len(batch) > limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return list(batch)

    return work


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 64])
def test_every_item_comes_once_and_in_order_whatever_fits(limit: int, caplog: pytest.LogCaptureFixture) -> None:
    calls: list[int] = []
    with caplog.at_level(logging.WARNING):
        found = list(BatchSize(16).each(range(23), short_above(limit, calls)))
    assert [item for batch in found for item in batch] == list(range(23))
    assert max(map(len, found)) <= limit
    assert len(caplog.records) == (limit < 16), "reported once, and only where it did not fit"


def test_what_was_found_to_fit_is_kept() -> None:
    size, calls = BatchSize(16), list[int]()
    list(size.each(range(16), short_above(4, calls)))
    assert size.images == 4 and calls == [16, 8, 4, 4, 4, 4]


def test_one_image_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        list(BatchSize(8).each(range(3), short_above(0, [])))


def test_only_a_size_of_the_user_is_given() -> None:
    assert is_given(EvaluationSettings(batch_images=64)) and not is_given(EvaluationSettings())


def test_the_cpu_keeps_its_size_and_more_room_is_more_images() -> None:
    model = tiny.spec().load("cpu")
    assert fitting(model, torch.device("cpu"), 64, gradients=False) == 64
    sizes = [images_in(room, model, 4, gradients=False) for room in (0, 1e8, 1e9, 1e14)]
    assert sizes[0] == 4 and sizes == sorted(sizes) and sizes[-1] == 1024
    assert images_in(1e8, model, 1, gradients=True) <= sizes[1], "what gradients need is kept for every block"
