"""Reading hidden messages: the length, strength and blur that fit an image best, and the message they give.

Three tests distinguish a mark from chance. The sum of squares needs no model of the distortion and has an exact tail;
the likelihood ratio models how JPEG and noise spread phases, and has more power after strong JPEG. Where bits have one
site each, all phases may be equally likely, but only a message has a valid tag. The p-value is the smallest of the
three, corrected for all of them and for every reading (Bonferroni).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from nullspace.model.vit import SplitViT
from nullspace.watermark.payload.code import TAG_BYTES, Code, coded_bits
from nullspace.watermark.payload.deblur import sharpened
from nullspace.watermark.payload.detection import Detection, bit_scores, log_p_value, sums_by_bit
from nullspace.watermark.payload.lattice import Lattice
from nullspace.watermark.payload.likelihood import explained, log_chance

_DECODED = 3  # readings of one image that are decoded at most, smallest p-value first
_TESTS = 3  # that the p-value is corrected for
_PROMISING = 0.01  # p-value up to which a reading is decoded: decoding is slow, and few unmarked images get there


@dataclass(frozen=True)
class Search:
    """What the reader does not know and has to try."""

    lengths: Sequence[int]
    strengths: Sequence[float]
    blurs: Sequence[float]
    false_positive_rate: float

    @property
    def tried(self) -> int:
        """Number of readings, for which the p-value is corrected."""
        return (1 + len(self.blurs)) * len(self.lengths) * len(self.strengths)

    @property
    def log_rate(self) -> float:
        """Natural logarithm of the false positive rate."""
        return math.log(self.false_positive_rate)

    @property
    def log_promising(self) -> float:
        """Log p-value up to which readings are decoded."""
        return max(self.log_rate, math.log(_PROMISING))

    @property
    def log_valid_tag(self) -> float:
        """Log probability that the first codeword of any decoding has a valid tag by chance, after correction."""
        return math.log(_TESTS * 2 * _DECODED * (1 + len(self.blurs))) - 8 * TAG_BYTES * math.log(2)


@dataclass(frozen=True, eq=False)
class _Readings:
    """Of one image, sites in assigned order: `scores` and log likelihood `ratios` (S,n), `room` (n,)."""

    scores: Tensor
    ratios: Tensor
    room: Tensor


def read(model: SplitViT, lattice: Lattice, values: Tensor, search: Search) -> list[Detection]:
    """The best reading of each of few images (B,3,H,W) in [0,1]."""
    patches = model.patchify(values)
    weights = lattice.weights(patches)
    found = _searched(lattice, patches, weights, search)
    for blur in search.blurs:
        lost = [image for image, each in enumerate(found) if each.message is None]
        if not lost:
            break
        again = _searched(lattice, model.patchify(sharpened(values[lost], blur)), weights[lost], search)
        for image, each in zip(lost, again, strict=True):
            found[image] = max(found[image], replace(each, blur=blur), key=lambda read: read.rank)
    return found


def evidence(scores: Tensor, ones: Tensor, zeros: Tensor, room: Tensor, bits: int) -> Tensor:
    """Log p-value (B,) for a message of `bits` coded bits by the first two tests.

    `scores`, and log likelihoods of `ones` and `zeros`, (B,n) of sites in assigned order, `room` (B,n) their weights.
    """
    by_squares, by_likelihood = log_p_value(bit_scores(scores, bits, room)), log_chance(ones, zeros, bits)
    return torch.minimum(by_squares, by_likelihood) + math.log(_TESTS)


def _searched(lattice: Lattice, patches: Tensor, room: Tensor, search: Search) -> list[Detection]:
    """The best reading of each of patches (B,N,3p²), with `room` (B,n) of sites."""
    read, bits = patches @ lattice.filters, [coded_bits(each) for each in search.lengths]
    scores, ratios, found = [], [], []
    for psnr in search.strengths:
        scores.append(lattice.scores(read, psnr))
        ones, zeros = explained(scores[-1], lattice.kinds, room, lattice.tables(psnr))
        ratios.append(ones - zeros)
        found.append(torch.stack([evidence(scores[-1], ones, zeros, room, each) for each in bits], dim=-1))
    by_image = zip(*(torch.stack(each, dim=1) for each in (scores, ratios, found)), room, strict=True)
    return [_decided(lattice, _Readings(one, other, own), all_, search) for one, other, all_, own in by_image]


def _decided(lattice: Lattice, readings: _Readings, log_p: Tensor, search: Search) -> Detection:
    """The verdict on one image, given log p-values (S,L) of all readings."""
    best: Detection | None = None
    for place in log_p.flatten().argsort()[:_DECODED].tolist():
        corrected = float(log_p.flatten()[place]) + math.log(search.tried)
        if best is not None and corrected > search.log_promising:
            break
        verdict = _verdict(lattice, readings, divmod(place, len(search.lengths)), corrected, search)
        if verdict.message is not None:
            return verdict
        best = best or verdict
    assert best is not None
    return best


def _verdict(lattice: Lattice, readings: _Readings, place: tuple[int, int], log_p: float, search: Search) -> Detection:
    """The reading of the strength and length at `place`; decoded only where its p-value is small."""
    strength, length = place[0], search.lengths[place[1]]
    code, bits = Code(length, lattice.secret), coded_bits(length)
    soft = bit_scores(readings.scores[strength], bits, readings.room).numpy()
    message, as_read = None, code.as_read(soft)
    if log_p <= search.log_promising:
        likely = sums_by_bit(readings.ratios[strength], bits).numpy()
        message, by_tag = _decoded(code, (likely, soft), search)
        log_p = min(log_p, by_tag)
        soft, as_read = likely, code.as_read(likely)
    found = log_p <= search.log_rate
    message = message if found else None
    agree = None if message is None else float(np.mean((soft > 0) == (code.encode(message) > 0)))
    p_value = math.exp(min(log_p, 0.0))
    return Detection(found, message, p_value, agree, length, search.strengths[strength], search.tried, as_read)


def _decoded(code: Code, bits: Sequence[np.ndarray], search: Search) -> tuple[bytes | None, float]:
    """The message by the first of the soft `bits` that gives one, and the log p-value of its tag; 0 without one."""
    for soft in bits:
        message, codewords = code.found(soft)
        if message is not None:
            return message, search.log_valid_tag + math.log(codewords)
    return None, 0.0
