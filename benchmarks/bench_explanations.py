"""What noise in the kernel changes in explanations of photographs by deit_tiny, and what it can be made to change.

    python benchmarks/bench_explanations.py --assets FOLDER --out results/explanations

Every photograph gets the noise that brings the map of input × gradient nearest to that of another photograph, or with
`--goal elsewhere` puts it on other pixels, found without a pass of the network, as 8-bit pixels. For each map: how
alike it is before and after (Spearman over tokens, share of the largest quarter that stays), beside the same change of
pixels in random order. For input × gradient pixel by pixel: the 1000 largest of 50 176. `--device cuda`
uses a GPU; needs torch and timm alone.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator

import torch
from columns import Columns
from common import asset_images, assets_parser, deit_tiny, with_assets, write
from torch import Tensor

from nullspace.attribution.compare import spearman, top_intersection
from nullspace.attribution.gradients import gradient, integrated_gradients, on_tokens
from nullspace.attribution.maps import MAPS
from nullspace.attribution.steering import elsewhere, map_of, steer
from nullspace.kernel.shift import exact_kernel
from nullspace.metrics.draws import Draws
from nullspace.model.images import from_uint8, round_to_uint8
from nullspace.model.vit import SplitViT
from nullspace.pixels.eight_bits import EightBits

CHOSEN_ON = 8  # photographs of the seeded order that the number of steps was chosen on
PIXELS = 1000  # of 50 176
POINTS = 8  # of the quadrature of integrated gradients


def compared(
    model: SplitViT, images: Tensor, pictures: Tensor, classes: Tensor, into: Columns, *, maps_too: bool
) -> None:
    """The pixels of input × gradient before and after, both of the clean class; every other map, too, if wanted."""
    with torch.no_grad():
        before, after = model(images), model(pictures)
    into.add("same class", before.argmax(dim=1) == after.argmax(dim=1))
    into.add("largest Δlogit", (after - before).abs().amax(dim=1))
    into.add("rms of the change, of 255", 255 * (pictures - images).square().mean(dim=(1, 2, 3)).sqrt())
    for name, found in (MAPS | {"integrated_gradients": _integrated} if maps_too else {}).items():
        one, other = found(model, images, classes), found(model, pictures, classes)
        into.add(f"{name}: Spearman", spearman(one, other))
        into.add(f"{name}: top quarter", top_intersection(one, other, one.shape[1] // 4))
    slopes = [gradient(model, each, classes) for each in (images, pictures)]
    maps = [map_of(model, each, slope).flatten(1).abs() for each, slope in zip((images, pictures), slopes, strict=True)]
    into.add("input_times_gradient, pixels: top 1000", top_intersection(maps[0], maps[1], PIXELS))


def _integrated(model: SplitViT, images: Tensor, classes: Tensor, *, create_graph: bool = False) -> Tensor:
    """With as few points as tell maps apart: the patch sums stay with any number of them."""
    found = integrated_gradients(model, images, classes, points=POINTS, create_graph=create_graph)
    return on_tokens(model, found)


def main() -> None:
    arguments = _arguments()
    model = deit_tiny(arguments.assets)
    photographs = asset_images(arguments.assets, model, arguments.images, start=CHOSEN_ON)
    kernel = exact_kernel(model)
    model = model.to(arguments.device)
    rounding = EightBits.of(model, kernel)
    steered, permuted = Columns("steered in the kernel"), Columns("its change, permuted")
    seconds, done = 0.0, 0
    for number, part in enumerate(photographs.split(arguments.batch)):
        images = part.to(arguments.device)
        with torch.no_grad():
            classes = model(images).argmax(dim=1)
        slope = gradient(model, images, classes)
        if arguments.goal == "another":
            wanted = map_of(model, images, slope).roll(1, 0)
        else:
            wanted = elsewhere(model, images, slope, PIXELS)
        began = time.process_time()
        found = steer(model, images, slope, wanted, kernel, steps=arguments.steps, eight_bits=rounding)
        seconds += time.process_time() - began
        pictures = from_uint8(found.saved)
        steered.add("reached", found.reached)
        compared(model, images, pictures, classes, steered, maps_too=not arguments.pixels)
        draws = Draws(0, "bench_explanations", [f"{number}:{row}" for row in range(len(images))])
        shuffled = draws.shuffled((pictures - images).cpu()).to(images)
        beside = from_uint8(round_to_uint8((images + shuffled).clamp(0, 1)))
        compared(model, images, beside, classes, permuted, maps_too=not arguments.pixels)
        done += len(images)
        facts = {
            "n": done,
            "steps": arguments.steps,
            "seconds of the processor per image": f"{seconds / done:.2g}",
            "share of the distance to the wanted map": steered.mean("reached"),
        }
        write(arguments.out, "What kernel noise changes in explanations", list(_rows([steered, permuted])), facts=facts)
        print(f"{done} of {len(photographs)} photographs", flush=True)


def _rows(ways: list[Columns]) -> Iterator[dict[str, str]]:
    for name in ways[1].values:
        figure = {"same class": Columns.share, "largest Δlogit": Columns.largest}.get(name, Columns.mean)
        yield {"figure": name} | {way.title: figure(way, name) for way in ways}


def _arguments() -> argparse.Namespace:
    parser = assets_parser(__doc__, out="results/explanations")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--steps", type=int, default=60, help="of the search for each picture")
    parser.add_argument("--goal", choices=("another", "elsewhere"), default="another")
    parser.add_argument("--pixels", action="store_true", help="input × gradient alone, in a tenth of the time")
    parser.add_argument("--batch", type=int, default=10)
    return with_assets(parser)


if __name__ == "__main__":
    main()
