"""One change of pixels for all photographs: how often deit_tiny keeps its class, over the size of the change.

    python benchmarks/bench_universal.py --assets FOLDER --out results/universal

Learned from 200 photographs, measured on 300 others, none of which any setting was chosen on; 8-bit pixels. Beside each
change: noise of the kernel of the same size, which it started at and which the clamp to the pixel range makes seen;
both permuted; random signs. Also noise of the tokens, learned as ever from the same photographs, that is lifted to one
change of pixels. `--merge` adds rows to those of an earlier run. `--device cuda` uses a GPU; needs torch and
timm alone.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import torch
from common import asset_images, assets_parser, deit_tiny, share, with_assets, write
from torch import Tensor

from nullspace.fooling.universal import STEPS, changed, universal_change
from nullspace.kernel.shift import shift_test
from nullspace.metrics.draws import Draws
from nullspace.metrics.encoder_data import prepare
from nullspace.model.encoder import Encoder
from nullspace.model.images import from_uint8
from nullspace.model.vit import SplitViT
from nullspace.noise.learn import learn_noise
from nullspace.noise.settings import NoiseSettings
from nullspace.pixels.lift import lift_shared, patch_map

LEARNED_FROM = 200  # the first of the seeded order
CHOSEN_ON = 100  # the next: step size and damping were chosen on them


class Bench:
    """Rows of the table, one for each change."""

    def __init__(self, model: SplitViT, images: Tensor, batch: int, rows: list[dict[str, Any]]) -> None:
        self.model, self.images, self.batch = model, images, batch
        self.device = next(model.parameters()).device
        self.clean = self._logits(images)
        self.rows = rows

    def row(self, name: str, change: Tensor, seconds: float | None = None) -> None:
        pictures = torch.cat([from_uint8(changed(part, change.cpu())) for part in self.images.split(self.batch)])
        logits = self._logits(pictures)
        off = logits.softmax(dim=1) - self.clean.softmax(dim=1)
        n, same = len(logits), logits.argmax(dim=1) == self.clean.argmax(dim=1)
        squared = off.square().sum(dim=1)
        error = 1.96 * float(squared.std()) / n**0.5
        real = (pictures - self.images).square().mean().sqrt()
        row = {
            "change": name,
            "same class": share(same),
            "mean ‖Δp‖²": f"{float(squared.mean()):.2g} ± {error:.1g}",
            "largest Δp": f"{float(off.abs().max()):.2g}",
            "mean ‖Δlogits‖": f"{float((logits - self.clean).norm(dim=1).mean()):.3g}",
            "rms after the clamp, of 255": f"{255 * float(real):.1f}",
            "n": n,
            "seconds": "" if seconds is None else f"{seconds:.0f}",
        }
        self.rows.append(row)
        print(row, flush=True)

    @torch.no_grad()
    def _logits(self, images: Tensor) -> Tensor:
        return torch.cat([self.model(part.to(self.device)).double().cpu() for part in images.split(self.batch)])


def main() -> None:
    arguments = _arguments()
    model = deit_tiny(arguments.assets)
    learned_from = asset_images(arguments.assets, model, LEARNED_FROM)
    images = asset_images(arguments.assets, model, arguments.images, start=LEARNED_FROM + CHOSEN_ON)
    model = model.to(arguments.device)
    known = arguments.out.with_suffix(".json")
    rows = json.loads(known.read_text())["rows"] if arguments.merge and known.is_file() else []
    bench = Bench(model, images, arguments.batch, rows)
    for rms in arguments.rms:
        began = time.perf_counter()
        learned = universal_change(model, learned_from, rms=rms / 255, steps=arguments.steps)
        seconds = time.perf_counter() - began
        start = universal_change(model, learned_from, rms=rms / 255, steps=0)
        draws = Draws(0, f"bench_universal:{rms}", ["change"])
        bench.row(f"rms {rms}/255, learned", learned, seconds)
        bench.row("  noise of the kernel", start)
        bench.row("  learned, permuted", draws.shuffled(learned.cpu()[None])[0])
        bench.row("  random signs", draws.signs(*learned.shape)[0] * rms / 255)
        _write(arguments, bench.rows)

    for size in arguments.relative_norm:
        began = time.perf_counter()
        change = lifted(model, learned_from, size, arguments.steps)
        bench.row(f"token noise of relative norm {size}, lifted", change, time.perf_counter() - began)
        draws = Draws(0, f"bench_universal:lifted:{size}", ["change"])
        bench.row("  its change, permuted", draws.shuffled(change.cpu()[None])[0])
        _write(arguments, bench.rows)


def _write(arguments: argparse.Namespace, rows: list[dict[str, Any]]) -> None:
    write(arguments.out, "One change of pixels for all photographs", rows, facts={"steps": arguments.steps})


def lifted(model: SplitViT, images: Tensor, relative_norm: float, steps: int) -> Tensor:
    """Noise of the tokens, learned from images, as one change (3,H,W) of pixels for all."""
    invariant = shift_test(model, images[:2]).invariant
    data = prepare(Encoder(model), images, shift_invariant=invariant)
    settings = NoiseSettings(relative_norm=relative_norm, ranks=(1, 4), steps=steps, batch_size=16)
    noise = learn_noise(data, settings).noise
    found = lift_shared(noise, model.patchify(images[:8]), patch_map(model, modulo_shift=invariant), bound=0.5)
    return model.unpatchify(found.lift.delta[None])[0].float()


def _arguments() -> argparse.Namespace:
    parser = assets_parser(__doc__, out="results/universal")
    parser.add_argument("--images", type=int, default=300, help="that are measured on")
    parser.add_argument("--relative-norm", type=float, nargs="*", default=[0.1, 0.3], help="of token noise")
    parser.add_argument("--rms", type=float, nargs="*", default=[16, 32, 64], help="sizes of the change, of 255")
    parser.add_argument("--merge", action="store_true", help="add to the rows that are there")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--batch", type=int, default=25)
    return with_assets(parser)


if __name__ == "__main__":
    main()
