"""Reading hidden messages: which length, strength and blur explain best what an image holds, and what it says then.

Two laws tell a mark from chance. The sum of squares needs no model of what happened to the image and has an exact tail;
the likelihood ratio knows how JPEG and noise blur phases, and finds what JPEG nearly drowned. The p-value is the
smaller of the two and pays for both, and for every reading.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from nullspace.vit import SplitViT
from nullspace.watermark.code import Code, coded_bits
from nullspace.watermark.detection import Detection, bit_scores, dealt, log_p_value
from nullspace.watermark.lattice import Lattice
from nullspace.watermark.likelihood import explained, log_chance
from nullspace.watermark.sharpen import sharpened

_DECODED = 3  # readings of one image that are decoded, the most evident first
_LAWS = 2  # that the p-value pays for


@dataclass(frozen=True)
class Search:
    """What a reader does not know and has to try."""

    lengths: Sequence[int]
    strengths: Sequence[float]
    blurs: Sequence[float]
    false_positive_rate: float

    @property
    def tried(self) -> int:
        """Readings in all, for which the p-value pays."""
        return (1 + len(self.blurs)) * len(self.lengths) * len(self.strengths)


@dataclass(frozen=True, eq=False)
class _Readings:
    """Of one image, in the order in which slots are dealt: `scores` and log likelihood `ratios` (S,n), `room` (n,)."""

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
    """Log (B,) of how likely chance gives this for a message of so many bits: at most, by either law.

    `scores`, and log likelihoods of `ones` and `zeros`, (B,n) of slots as they are dealt, `room` (B,n) their weights.
    """
    by_squares, by_likelihood = log_p_value(bit_scores(scores, bits, room)), log_chance(ones, zeros, bits)
    return torch.minimum(by_squares, by_likelihood) + math.log(_LAWS)


def _searched(lattice: Lattice, patches: Tensor, room: Tensor, search: Search) -> list[Detection]:
    """The best reading of each of patches (B,N,3p²), with `room` (B,n) of slots."""
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
        found = corrected <= math.log(search.false_positive_rate)
        if best is not None and not found:
            break
        verdict = _verdict(lattice, readings, divmod(place, len(search.lengths)), corrected, search)
        if verdict.message is not None:
            return verdict
        best = best or verdict
    assert best is not None
    return best


def _verdict(lattice: Lattice, readings: _Readings, place: tuple[int, int], log_p: float, search: Search) -> Detection:
    """What the reading of the strength and length at `place` says; decoded only where it is no chance."""
    strength, length = place[0], search.lengths[place[1]]
    code, bits = Code(length, lattice.secret), coded_bits(length)
    soft = bit_scores(readings.scores[strength], bits, readings.room).numpy()
    message, as_read = None, code.as_read(soft)
    found = log_p <= math.log(search.false_positive_rate)
    if found:
        plain, soft = soft, dealt(readings.ratios[strength], bits).numpy()
        message, as_read = code.decode(soft)
        message = message or code.decode(plain)[0]
    agree = None if message is None else float(np.mean((soft > 0) == (code.encode(message) > 0)))
    p_value = math.exp(min(log_p, 0.0))
    return Detection(found, message, p_value, agree, length, search.strengths[strength], search.tried, as_read)
