"""Square: random squares that are kept where they raise the loss, without gradients (Andriushchenko et al. 2020)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nullspace.metrics.draws import Draws
from nullspace.robustness.attacks.case import Case, Threat
from nullspace.robustness.attacks.losses import margin
from nullspace.robustness.attacks.norm import column, unit
from nullspace.robustness.attacks.victim import Victim

_FIRST_SHARE = 0.8  # of the pixels in the first square
_HALVED_AT = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # of 10 000 queries, in which the share of pixels halves
_STREAMS = 8  # of chance for each query


@dataclass(eq=False)
class _Search:
    """Open images: where each is, and the margin (n,) of other classes there."""

    index: Tensor
    draws: Draws
    point: Tensor
    value: Tensor

    def keep(self, mask: Tensor) -> _Search:
        if bool(mask.all()):
            return self
        chosen = self.draws[mask.to(self.draws.device)]
        return _Search(self.index[mask], chosen, self.point[mask], self.value[mask])


def square(victim: Victim, case: Case, threat: Threat, *, queries: int) -> None:
    """`queries` passes forward for each open image."""
    index = case.open(threat.epsilon)
    if not len(index):
        return
    images = case.images[index]
    draws = case.draws[index.to(case.draws.device)]
    start = stripes(draws.stream(0), images) if threat.norm == "linf" else bumps(draws.stream(0), images)
    search = _Search(index, draws, images, images.new_full((len(index),), -torch.inf))
    _try(victim, case, search, threat.nearest(images, images + threat.epsilon * start))
    for query in range(1, queries):
        search = search.keep(~case.broken(search.index, threat.epsilon))
        if not len(search.index):
            return
        images = case.images[search.index]
        side = side_of(query, queries, min(images.shape[2:]))
        changed = _signs(search, images, threat, side, query)
        if threat.norm == "l2":
            changed = _moved(search, images, threat, max(3, side | 1), query)
        _try(victim, case, search, threat.nearest(images, changed))


def side_of(query: int, queries: int, most: int) -> int:
    """The side of a square, in pixels, less than `most`: its share of the image halves as the search goes on."""
    halved = sum(10_000 * query / queries > at for at in _HALVED_AT)
    return min(max(1, round((_FIRST_SHARE / 2**halved) ** 0.5 * most)), most - 1)


def stripes(draws: Draws, images: Tensor) -> Tensor:
    """Vertical stripes of a pixel's width, -1 or 1 in each channel: (n,3,H,W)."""
    return draws.signs(images.shape[1], 1, images.shape[3]).to(images).expand_as(images)


def bumps(draws: Draws, images: Tensor) -> Tensor:
    """A grid of 5 by 5 bumps with random signs for each channel, of length 1: the start for L2."""
    channels, height, width = images.shape[1:]
    side = max(3, min(height, width) // 5)
    tile = bump(side).to(images)
    repeat = (-(-height // side), -(-width // side))
    signs = draws.signs(channels, *repeat).to(images)
    grid = torch.einsum("ncij,ab->nciajb", signs, tile).reshape(len(images), channels, repeat[0] * side, -1)
    return unit(grid[:, :, :height, :width])


def bump(side: int) -> Tensor:
    """Two pyramids of opposite sign side by side, (side,side), of length 1: large steps that fade to the rim."""
    half = side // 2
    return unit(torch.cat([_pyramid(side, half), -_pyramid(side, side - half)], dim=1)[None, None])[0, 0]


def _pyramid(height: int, width: int) -> Tensor:
    """Sums of 1/k², of more terms the nearer a pixel is to the middle: η of section 4 of the paper, (height,width)."""
    rows, columns = ((torch.arange(length) - length // 2).abs() for length in (height, width))
    far, most = torch.maximum(rows[:, None], columns), height // 2
    sums = torch.arange(1, most + 2).double().pow(-2).cumsum(0)
    return (sums[most] - torch.cat([sums.new_zeros(1), sums])[far]).float()


def _signs(search: _Search, images: Tensor, threat: Threat, side: int, query: int) -> Tensor:
    """Linf: a square takes the values ±ε, one for each channel."""
    there = window(search.draws, images, side, _STREAMS * query)
    signs = search.draws.stream(_STREAMS * query + 2).signs(images.shape[1], 1, 1).to(images)
    return torch.where(there, images + threat.epsilon * signs, search.point)


def _moved(search: _Search, images: Tensor, threat: Threat, side: int, query: int) -> Tensor:
    """L2: the length of the change in a second window, and what is left to ε, goes into a bump in a first."""
    first = window(search.draws, images, side, _STREAMS * query)
    second = window(search.draws, images, side, _STREAMS * query + 4) & ~first
    change = search.point - images
    signs = search.draws.stream(_STREAMS * query + 2).signs(images.shape[1], 1, 1).to(images)
    turned = search.draws.stream(_STREAMS * query + 3).integers(2).to(images.device) == 1
    shape = torch.where(column(turned), bump(side).T.to(images), bump(side).to(images))
    laid = torch.zeros_like(images).masked_scatter(first.expand_as(images), shape.repeat(1, images.shape[1], 1, 1))
    new = unit(signs * laid + unit(change * first))
    rest = change * ~first * ~second
    length = (threat.epsilon**2 - rest.square().sum(dim=(1, 2, 3))).clamp_min(0).sqrt()
    return images + rest + column(length) * new


def window(draws: Draws, images: Tensor, side: int, stream: int) -> Tensor:
    """A square at a random place of each image: mask (n,1,H,W)."""
    marks = []
    for number, length in enumerate(images.shape[2:]):
        start = draws.stream(stream + number).integers(length - side + 1).to(images.device)
        at = torch.arange(length, device=images.device)
        marks.append((at >= start[:, None]) & (at < start[:, None] + side))
    return (marks[0][:, :, None] & marks[1][:, None, :])[:, None]


def _try(victim: Victim, case: Case, search: _Search, changed: Tensor) -> None:
    """Keep the changed pictures whose margin is larger."""
    logits = victim.logits(changed, search.index)
    case.note(search.index, changed, logits)
    value = margin(logits, case.labels[search.index])
    better = value > search.value
    search.point = torch.where(column(better), changed, search.point)
    search.value = torch.where(better, value, search.value)
