"""Decoding by ordered statistics: the likeliest codewords of a linear code, tried where algebraic decoding fails.

Source: Fossorier & Lin, "Soft-decision decoding of linear block codes based on ordered statistics", 1995.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


def likeliest(soft: np.ndarray, generator: np.ndarray, count: int) -> Iterator[np.ndarray]:
    """Up to `count` codewords (n,) of 0 and 1, the likeliest first.

    `soft` (n,) holds sign and reliability of every bit as read, `generator` (k,n) is the generator matrix of 0 and 1,
    of rank k. The k most reliable bits that determine a codeword are taken as read, or with one or two of them flipped.
    """
    order = np.argsort(-np.abs(soft), kind="stable")
    rows, decisive = _reduced(generator[:, order])
    read = soft[order]
    taken = (read[decisive] > 0).astype(np.int64) @ rows % 2
    # Row 0 flips nothing, so that pairs (0,0), (0,j) and (i,j) are no, one and two bits flipped.
    flipped = np.vstack([np.zeros_like(rows[:1]), rows])
    signs = 1.0 - 2.0 * flipped
    agreement = (signs * (read * (2.0 * taken - 1.0))) @ signs.T
    first, second = np.triu_indices(len(flipped), 1)
    pairs = np.vstack([[0, 0], np.stack([first, second], axis=1)])
    best = np.argsort(-agreement[pairs[:, 0], pairs[:, 1]], kind="stable")[:count]
    back = np.argsort(order)
    for one, other in pairs[best]:
        yield (taken ^ flipped[one] ^ flipped[other])[back]


def _reduced(generator: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows (k,n) of the same code with an identity matrix in the first k independent columns, and those columns."""
    rows, columns = generator.astype(np.int64), []
    for column in range(rows.shape[1]):
        done = len(columns)
        if done == len(rows):
            break
        below = np.flatnonzero(rows[done:, column])
        if not len(below):
            continue
        rows[[done, done + below[0]]] = rows[[done + below[0], done]]
        others = np.flatnonzero(rows[:, column])
        rows[others[others != done]] ^= rows[done]
        columns.append(column)
    return rows, np.array(columns)
