"""Scikit-learn's handwritten digits (UCI optical digits, 1797 real scans of 8x8) as 64x64 RGB, with a fixed split.

Light ink on grey paper: black and white would leave noise and marks no room, as pixels end there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from PIL import Image

Split = Literal["train", "held_out", "all"]
SPLITS: tuple[str, ...] = get_args(Split)

COUNT = 1797
HELD_OUT = 600
SIZE = 64
PAPER, INK = 80, 208  # grey levels of none and of full ink
_LEVELS = 16  # the data set stores ink as 0..16
_SPLIT_SEED = 20230


@dataclass(frozen=True)
class Digits:
    """Images uint8 (n,64,64,3), labels int64 (n,) 0..9, ids `digit-0000` … (position in scikit-learn's order)."""

    images: np.ndarray
    labels: np.ndarray
    ids: list[str]


def load(split: Split = "held_out") -> Digits:
    """The digits of one split: 1197 `train`, 600 `held_out`, or `all` 1797, in scikit-learn's order.

    The held-out images were never seen by the shipped weights. Raises ValueError for another split name.
    """
    from sklearn.datasets import load_digits

    raw, labels = (np.asarray(part) for part in load_digits(return_X_y=True))
    chosen = _indices(split, labels)
    images = np.stack([upscale(ink) for ink in raw[chosen].reshape(-1, 8, 8)])
    return Digits(images, labels[chosen].astype(np.int64), [f"digit-{index:04d}" for index in chosen])


def upscale(ink: np.ndarray) -> np.ndarray:
    """(8,8) of 0..16 to uint8 (64,64,3): from PAPER to INK, enlarged by Pillow's bicubic filter, 3 equal channels."""
    levels = np.round(PAPER + ink * ((INK - PAPER) / _LEVELS)).astype(np.uint8)
    large = Image.fromarray(levels).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    return np.repeat(np.asarray(large)[:, :, None], 3, axis=2)


def _indices(split: str, labels: np.ndarray) -> np.ndarray:
    if split not in SPLITS:
        raise ValueError(f"expected a digits split of {', '.join(SPLITS)}, got {split!r}")
    everything = np.arange(len(labels))
    if split == "all":
        return everything
    held_out = _held_out(labels)
    return held_out if split == "held_out" else np.setdiff1d(everything, held_out)


def _held_out(labels: np.ndarray) -> np.ndarray:
    # Evenly spaced picks from a class-sorted shuffle are stratified by construction. RandomState's stream is
    # frozen by NumPy's policy, so the split cannot move with a version.
    shuffled = np.random.RandomState(_SPLIT_SEED).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    picks = (np.arange(HELD_OUT) * len(labels)) // HELD_OUT
    return np.sort(by_class[picks])
