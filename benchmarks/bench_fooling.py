"""Fooling the network: pictures near one photograph that the model takes for another.

    python benchmarks/bench_fooling.py --assets FOLDER --pairs 300 --out results/fooling

Pairs of photographs of different predicted classes, none of which any setting was chosen on. For each ε: how often the
model takes the 8-bit picture for the image, what is left of the squared distance of logits, beside the same change
permuted and random signs of its size; looks of nothing in the whole pixel range; the nearest look in the kernel. As
baselines, the search without its three additions (metric, class margin, shrinking steps), and, where it is installed,
plenoptic's Metamer of the features at as many passes. `--device cuda` uses a GPU; needs torch and timm alone.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from common import asset_images, assets_parser, deit_tiny, share, with_assets, write
from scipy import stats
from torch import Tensor

from nullspace.fooling.depth import squared_distance, state_at
from nullspace.fooling.exact import nearest_look
from nullspace.fooling.metamer import metamers
from nullspace.kernel.shift import exact_kernel
from nullspace.metrics.draws import Draws
from nullspace.model.images import from_uint8, round_to_uint8
from nullspace.model.vit import SplitViT
from nullspace.pixels.eight_bits import EightBits

CHOSEN_ON = 200  # photographs of the seeded order that settings were chosen on
APART = 97  # places in that order between the two photographs of a pair


@dataclass(frozen=True, eq=False)
class Pairs:
    """Images and looks (n,3,H,W) in [0,1] on the CPU, of different predicted classes."""

    images: Tensor
    looks: Tensor


def pairs_of(model: SplitViT, photographs: Tensor, count: int) -> Pairs:
    with torch.no_grad():
        kinds = torch.cat([model(part).argmax(dim=1).cpu() for part in photographs.split(32)])
    at = torch.arange(len(photographs))
    other = (at + APART) % len(photographs)
    chosen = at[kinds[at] != kinds[other]][:count]
    return Pairs(photographs[chosen], photographs[other[chosen]])


class Bench:
    """Rows of the table: one for each way to make pictures, two for its controls."""

    def __init__(self, model: SplitViT, pairs: Pairs, batch: int) -> None:
        self.model, self.pairs, self.batch = model, pairs, batch
        self.device = next(model.parameters()).device
        self.rows: list[dict[str, Any]] = []

    def run(
        self, name: str, make: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], looks: Tensor, *, exact: bool = False
    ) -> None:
        """`make` gives saved pictures (b,3,H,W) uint8 and passes (b,) for images and looks of a batch."""
        began, made, passes = time.perf_counter(), [], []
        for images, wanted in zip(self.pairs.images.split(self.batch), looks.split(self.batch), strict=True):
            saved, used = make(images.to(self.device), wanted.to(self.device))
            made.append(saved.cpu())
            passes.append(used.cpu())
        seconds = (time.perf_counter() - began) / len(looks)
        fooled, base = from_uint8(torch.cat(made)), self.pairs.images if exact else looks
        extra = {"passes": float(torch.cat(passes).mean()), "seconds per image": seconds}
        self._row(name, fooled, looks, extra)
        change = fooled - base
        draws = Draws(0, f"bench_fooling:{name}", [str(each) for each in range(len(looks))])
        size = change.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
        controls = {
            "  its change, permuted": draws.shuffled(change),
            "  random signs of its size": draws.signs(*change.shape[1:]) * size,
        }
        for title, control in controls.items():
            self._row(title, from_uint8(round_to_uint8((base + control).clamp(0, 1))), looks, {})

    @torch.no_grad()
    def _row(self, name: str, pictures: Tensor, looks: Tensor, extra: dict[str, Any]) -> None:
        found, image, look = (self._logits(each) for each in (pictures, self.pairs.images, looks))
        kinds = [each.argmax(dim=1) for each in (found, image, look)]
        left = (squared_distance(found, image) / squared_distance(look, image)).numpy()
        of_image = image.softmax(dim=1).gather(1, kinds[1][:, None])
        off = (found.softmax(dim=1).gather(1, kinds[1][:, None]) - of_image).abs()
        mse = (pictures - looks).square().mean(dim=(1, 2, 3))
        row = {
            "picture": name,
            "class of the image": share(kinds[0] == kinds[1]),
            "class of the look": share(kinds[0] == kinds[2]),
            "squared distance left, median": _median(left),
            "90 % quantile": f"{100 * float(np.quantile(left, 0.9)):.3g} %",
            "confidence off by at most .05": share(off <= 0.05),
            "PSNR to the look": f"{float((-10 * mse.log10()).mean()):.1f} dB",
            "n": len(looks),
            **{key: f"{value:.3g}" for key, value in extra.items()},
        }
        self.rows.append(row)
        print(row, flush=True)

    def _logits(self, images: Tensor) -> Tensor:
        parts = [self.model(part.to(self.device)).double().cpu() for part in images.split(self.batch)]
        return torch.cat(parts)


def _median(values: np.ndarray) -> str:
    """With its distribution-free 95 % interval (Conover 1999)."""
    ordered, low = np.sort(values), int(stats.binom.ppf(0.025, len(values), 0.5))
    ends = "" if low < 1 else f" [{100 * ordered[low - 1]:.3g}, {100 * ordered[len(values) - low]:.3g}]"
    return f"{100 * float(np.median(values)):.3g} %{ends}"


def plain(model: SplitViT, images: Tensor, looks: Tensor, *, epsilon: float, steps: int) -> tuple[Tensor, Tensor]:
    """Sign descent with momentum on the distance of logits, with equal steps: MI-FGSM (Dong et al. 2018)."""
    state = state_at(model, "logits")
    with torch.no_grad():
        wanted = state(images)
    low, high, here, momentum = (looks - epsilon).clamp(0, 1), (looks + epsilon).clamp(0, 1), looks, 0.0
    for _ in range(steps):
        here = here.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(squared_distance(state(here), wanted).sum(), here)
        momentum = momentum + gradient / gradient.abs().mean(dim=(1, 2, 3), keepdim=True)
        here = torch.minimum(torch.maximum(here.detach() - epsilon / steps * 2 * momentum.sign(), low), high)
    return round_to_uint8(here), torch.full((len(looks),), float(steps))


def main() -> None:
    arguments = _arguments()
    device = torch.device(arguments.device)
    model = deit_tiny(arguments.assets)
    photographs = asset_images(arguments.assets, model, arguments.photographs, start=CHOSEN_ON)
    kernel = exact_kernel(model)
    model = model.to(device)
    pairs = pairs_of(model, photographs, arguments.pairs)
    bench = Bench(model, pairs, arguments.batch)

    def near(**options: Any) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
        def make(images: Tensor, looks: Tensor) -> tuple[Tensor, Tensor]:
            found = metamers(model, images, looks, **options)
            return found.saved, found.passes

        return make

    for epsilon, steps in ((8, 60), (4, 40), (2, 40), (4, 100)):
        bench.run(f"ε = {epsilon}/255, {steps} passes", near(epsilon=epsilon / 255, steps=steps), pairs.looks)
    bench.run("ε = 4/255, 40 passes, MI-FGSM", lambda x, y: plain(model, x, y, epsilon=4 / 255, steps=40), pairs.looks)
    for at in ("features", "block:9", "block:6", "block:3"):
        bench.run(f"ε = 8/255, {at}, 60 passes", near(epsilon=8 / 255, at=at, steps=60), pairs.looks)
    for name, look in (("grey", torch.full_like(pairs.looks, 128 / 255)), ("noise", _noise(pairs.looks))):
        bench.run(f"look of {name}, whole range, 60 passes", near(steps=60), look)
    eight = EightBits.of(model, kernel)

    def exact(images: Tensor, looks: Tensor) -> tuple[Tensor, Tensor]:
        found = nearest_look(model, images, looks, kernel, eight_bits=eight)
        return found.saved, torch.zeros(len(looks))

    bench.run("exact: nearest look in the kernel", exact, pairs.looks, exact=True)
    write(arguments.out, "Fooled pictures of deit_tiny", bench.rows)


def _noise(like: Tensor) -> Tensor:
    drawn = Draws(0, "bench_fooling:noise", [str(each) for each in range(len(like))]).uniform(*like.shape[1:])
    return from_uint8(round_to_uint8(drawn))


def _arguments() -> argparse.Namespace:
    parser = assets_parser(__doc__, out="results/fooling")
    parser.add_argument("--pairs", type=int, default=300)
    parser.add_argument("--photographs", type=int, default=400, help="of which pairs are made")
    parser.add_argument("--batch", type=int, default=50)
    return with_assets(parser)


if __name__ == "__main__":
    main()
