"""Codewords near a soft reading: those of the code, the likeliest first, and often the likeliest of all."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from nullspace.watermark.payload.ordered_statistics import likeliest

BITS, LENGTH = 7, 16


def code(seed: int) -> np.ndarray:
    """Rows of a random linear code of full rank, in no order that would make decoding easy."""
    drawn = np.random.default_rng(seed)
    rows = np.hstack([drawn.integers(0, 2, (BITS, LENGTH - BITS)), np.eye(BITS, dtype=np.int64)])
    mixed = np.tril(drawn.integers(0, 2, (BITS, BITS)), -1) + np.eye(BITS, dtype=np.int64)
    return (mixed @ rows % 2)[:, drawn.permutation(LENGTH)]


def every_word(generator: np.ndarray) -> np.ndarray:
    return np.array(list(itertools.product((0, 1), repeat=BITS))) @ generator % 2


def agreement(words: np.ndarray, soft: np.ndarray) -> np.ndarray:
    return (2.0 * words - 1) @ soft


@pytest.mark.parametrize("seed", range(20))
def test_found_are_distinct_codewords_the_likeliest_first(seed: int) -> None:
    generator, soft = code(seed), np.random.default_rng(seed).standard_normal(LENGTH)
    found = np.array(list(likeliest(soft, generator, 1000)))
    words = {tuple(word) for word in every_word(generator)}
    assert len(found) == 1 + BITS + BITS * (BITS - 1) // 2 == len({tuple(word) for word in found})
    assert all(tuple(word) in words for word in found)
    assert (np.diff(agreement(found, soft)) <= 1e-9).all()
    assert np.array_equal(found[:5], np.array(list(likeliest(soft, generator, 5))))


def test_the_first_is_nearly_always_the_likeliest_of_all() -> None:
    right = 0
    for seed in range(200):
        generator, drawn = code(seed), np.random.default_rng(1000 + seed)
        sent = drawn.integers(0, 2, BITS) @ generator % 2
        soft = 2.0 * sent - 1 + 0.9 * drawn.standard_normal(LENGTH)
        best = agreement(every_word(generator), soft).max()
        right += agreement(next(likeliest(soft, generator, 1))[None], soft)[0] >= best - 1e-9
    assert right >= 198


def test_a_reading_without_errors_gives_what_was_sent() -> None:
    generator = code(0)
    for word in every_word(generator):
        assert np.array_equal(next(likeliest(2.0 * word - 1, generator, 1)), word)


def test_bits_that_say_nothing_are_filled_in() -> None:
    generator = code(3)
    word = every_word(generator)[77]
    soft = 2.0 * word - 1
    soft[np.flatnonzero(soft > 0)[:2]] = 0
    assert np.array_equal(next(likeliest(soft, generator, 1)), word)
