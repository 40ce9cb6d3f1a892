"""Frost on a pane.

The published code lays crops of five photographs of frost over the image. They are not ours to give on, so the frost is
made here: needles of ice in three directions 60 degrees apart, grown from seeds at random places, on a cloud of rime,
with a blue tint. Brightness differs from pane to pane; its range, and the deviation within a pane of about .09, are
those of the photographs. Its shapes are not: figures of this corruption are not comparable with published ones.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nullspace.metrics.draws import Draws
from nullspace.robustness.corruptions.blur.motion import angle, moved
from nullspace.robustness.corruptions.plasma import plasma

_SHARES = ((1.0, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75))  # of the image, of the frost
_TINT = (0.86, 0.96, 1.0)
_DARKEST, _BRIGHTEST = 0.4, 0.9  # mean of a pane
_SEEDS = 2.3  # deviations of a normal draw beyond which a needle grows: one pixel of a hundred
_NEEDLE = (10, 8.0)  # radius and sigma, pixels
_RIME, _ICE = 0.3, 0.45  # contrast of rime and needles
_DECAY = 1.7  # of the cloud of rime


def frost(image: Tensor, severity: int, draws: Draws) -> Tensor:
    """The image, darker, and frost over it."""
    kept, laid = _SHARES[severity - 1]
    height, width = image.shape[1:]
    return kept * image + laid * texture((height, width), draws)


def texture(shape: tuple[int, int], draws: Draws) -> Tensor:
    """Frost (3,H,W) in [0,1]."""
    rime = torch.from_numpy(plasma(shape, _DECAY, draws)).float()
    seeds = (draws.normal(1, *shape)[0] - _SEEDS).clamp_min(0)
    first = angle(draws.stream(1), 0, 60)
    directions = [first + turn for turn in range(0, 360, 60)]
    grown = torch.stack([moved(seeds, *_NEEDLE, each)[0] for each in directions]).amax(dim=0)
    ice = (grown / grown.amax().clamp_min(1e-9)).sqrt()
    mean = _DARKEST + (_BRIGHTEST - _DARKEST) * float(draws.stream(2).uniform(1)[0, 0])
    values = mean + _RIME * (rime - rime.mean()) + _ICE * (ice - ice.mean())
    return torch.tensor(_TINT)[:, None, None] * values.clamp(0, 1)
