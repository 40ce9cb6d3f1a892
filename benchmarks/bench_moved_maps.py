"""Noise of a few levels that keeps the prediction of deit_tiny and moves its explanation, on photographs.

    python benchmarks/bench_moved_maps.py --assets FOLDER --map gradient_weighted_attention --out results/moved_maps
    python benchmarks/bench_moved_maps.py --merge a.values.json b.values.json --out results/moved_maps

The second joins what several processes measured on photographs of their own (`--start`).

Away: the map is to be unlike the clean one; towards: like that of another photograph. Columns are the largest change
of a pixel, of 255, beside signs at random of that size; rows are likeness of maps over tokens (of 196 the largest 49
are the top quarter, by chance 25 % stay), and what became of the prediction. Figures are those of 8-bit pictures. The
file is written again after every batch. `--device cuda` uses a GPU; needs torch and timm alone.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from columns import Columns
from common import asset_images, assets_parser, deit_tiny, with_assets, write
from torch import Tensor

from nullspace.attribution.compare import pearson, spearman, top_intersection
from nullspace.attribution.maps import TokenMap, map_named
from nullspace.attribution.places import PixelPlace
from nullspace.attribution.search import LIMIT, move_map
from nullspace.metrics.draws import Draws
from nullspace.model.images import from_uint8, round_to_uint8
from nullspace.model.vit import SplitViT

TITLE = "Explanations moved within a few levels"
CHOSEN_ON = 8  # photographs of the seeded order that settings were chosen on


def measured(model: SplitViT, found: TokenMap, images: Tensor, pictures: Tensor, goal: Tensor, into: Columns) -> None:
    """Predictions of pictures beside those of images, and their maps beside `goal`."""
    with torch.no_grad():
        before, after = model(images), model(pictures)
    classes = before.argmax(dim=1)
    change = (after.softmax(dim=1) - before.softmax(dim=1)).square().sum(dim=1)
    into.add("same class", after.argmax(dim=1) == classes)
    into.add(f"‖Δp‖² ≤ {LIMIT:g}", change <= LIMIT)
    into.add("‖Δp‖²", change)
    one = found(model, pictures, classes)
    into.add("Spearman", spearman(one, goal))
    into.add("Pearson", pearson(one, goal))
    into.add("top quarter", top_intersection(one, goal, goal.shape[1] // 4))


def main() -> None:
    arguments = _arguments()
    if arguments.merge:
        merge(arguments.merge, arguments.out)
        return
    model = deit_tiny(arguments.assets).to(arguments.device)
    photographs = asset_images(arguments.assets, model, arguments.images, start=CHOSEN_ON + arguments.start)
    photographs = from_uint8(round_to_uint8(photographs))
    found, ways, seconds, done = map_named(arguments.map), {}, 0.0, 0
    for part in photographs.split(arguments.batch):
        images = part.to(arguments.device)
        first = arguments.start + done
        draws = Draws(0, "bench_moved_maps", [str(first + row) for row in range(len(images))])
        with torch.no_grad():
            own = found(model, images, model(images).argmax(dim=1)).detach()
        goals = {"away": own, "towards": own.roll(1, 0)}
        measured(model, found, images, images, goals["towards"], ways.setdefault("towards, before", Columns("")))
        for name, epsilon in arguments.ways:
            place = PixelPlace.around(model, images, draws, epsilon=epsilon / 255)
            began = time.process_time()
            towards = None if name == "away" else goals[name]
            moved = move_map(model, images, found, place, towards=towards, steps=arguments.steps)
            seconds += time.process_time() - began
            into = ways.setdefault(f"{name}, {epsilon}/255", Columns(""))
            measured(model, found, images, from_uint8(moved.made), goals[name], into)
            if name == "away":
                signs = images + epsilon / 255 * draws.stream(1).to(images.device).signs(*images.shape[1:])
                into = ways.setdefault(f"signs, {epsilon}/255", Columns(""))
                measured(model, found, images, from_uint8(round_to_uint8(signs.clamp(0, 1))), own, into)
        done += len(images)
        facts = {"map": arguments.map, "n": done, "steps": arguments.steps}
        facts["seconds of the processor per image and way"] = f"{seconds / done / len(arguments.ways):.2g}"
        write(arguments.out, TITLE, list(_rows(ways)), facts=facts)
        known = {"facts": facts, "ways": {name: way.to_lists() for name, way in ways.items()}}
        arguments.out.with_suffix(".values.json").write_text(json.dumps(known), encoding="utf-8")
        print(f"{done} of {len(photographs)} photographs", flush=True)


def merge(files: list[Path], out: Path) -> None:
    """Join the values of several processes into one table."""
    ways: dict[str, Columns] = {}
    found = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    for each in found:
        for name, lists in each["ways"].items():
            ways.setdefault(name, Columns("")).take_in(lists)
    facts = found[0]["facts"] | {"n": sum(each["facts"]["n"] for each in found)}
    write(out, TITLE, list(_rows(ways)), facts=facts)


def _rows(ways: dict[str, Columns]) -> Iterator[dict[str, str]]:
    for name in next(iter(ways.values())).values:
        figure = Columns.share if name == "same class" or "≤" in name else Columns.mean
        yield {"figure": name} | {title: figure(way, name) for title, way in ways.items()}


def _way(text: str) -> tuple[str, int]:
    name, _, epsilon = text.partition(":")
    if name not in ("away", "towards") or not epsilon.isdigit():
        raise argparse.ArgumentTypeError(f"expected away:N or towards:N, got {text!r}")
    return name, int(epsilon)


def _arguments() -> argparse.Namespace:
    parser = assets_parser(__doc__, out="results/moved_maps")
    parser.add_argument("--map", default="gradient_weighted_attention")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--start", type=int, default=0, help="first photograph")
    parser.add_argument("--merge", type=Path, nargs="+", help="values to join, instead of measuring")
    parser.add_argument("--steps", type=int, default=20, help="of the search for each picture")
    parser.add_argument("--ways", type=_way, nargs="+", default=[("away", 4), ("away", 8), ("towards", 8)])
    parser.add_argument("--batch", type=int, default=10)
    return with_assets(parser)


if __name__ == "__main__":
    main()
