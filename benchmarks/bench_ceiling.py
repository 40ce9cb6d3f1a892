"""How fast questions are asked of images when the model costs nothing: what is drawn, projected, rounded and measured.

    python benchmarks/bench_ceiling.py --assets FOLDER [--images 16] [--before CHECKOUT]      about 2 minutes, one core

The model has the patch embedding and the tokens of deit_tiny, and of the rest nothing but the last linear layer. Images
per second of one core for each condition of each question, what all conditions share counted with the first; beside
them, reading the shard alone. With `--before` also those of another checkout of this repository, turn by turn. Time is
that of the process, which other work on the machine disturbs less, and the least of all rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

QUESTIONS = ("kernel_noise", "learned_noise", "visible_watermark", "payload")
READING = "reading the shard"
Seconds = dict[str, float]


def measured(assets: Path, count: int, folder: Path) -> Seconds:
    """Seconds of one image by question and condition, with the code that Python finds first."""
    import torch
    from common import DEIT

    from pipelines.data.shards import read_shard, shard_path
    from pipelines.engine.models import learn_facts
    from pipelines.engine.settings import ModelSettings

    torch.set_num_threads(1)
    spec = learn_facts(ModelSettings(name=DEIT, weights="random", args={"depth": 0}), seed=0)[0].spec
    ingest = write_shard(assets, count, folder)
    made = inputs(spec, ingest, folder)
    begun = time.process_time()
    shard = read_shard(shard_path(ingest, "000000"))
    found = {READING: time.process_time() - begun}
    with torch.no_grad():
        for name, worker in workers(spec, made, folder):
            found |= conditions(name, worker, shard)
    return {name: seconds / count for name, seconds in found.items()}


def write_shard(assets: Path, count: int, folder: Path) -> Path:
    """An ingest folder of one shard of real images."""
    from common import asset_images, deit_tiny

    from pipelines.data.shards import shard_path, shard_table
    from pipelines.files import write_table

    images = (asset_images(assets, deit_tiny(assets), count) * 255).round().byte().numpy()
    target = shard_path(folder / "ingest", "000000")
    target.parent.mkdir(parents=True)
    write_table(target, shard_table([f"{number}.JPEG" for number in range(count)], images, [-1] * count))
    return target.parent


def inputs(spec: Any, ingest: Path, folder: Path) -> dict[str, Any]:
    """The stages that questions read, as far as they read them; random noise stands in for a search."""
    import torch

    from nullspace.kernel.patch_kernel import patch_kernel
    from nullspace.metrics.unit import Unit
    from nullspace.noise.artifact import NullNoise
    from pipelines.data.split import Split
    from pipelines.engine.stage import Done

    model = spec.load("cpu")
    tensor = torch.randn(model.num_patches, model.embed_dim, generator=torch.Generator().manual_seed(0))
    unit = Unit(1.0, shift_invariant=True)
    noise = NullNoise.of(tensor, unit, model=spec, objective="none", seed=0, data_fingerprint="0")
    noise.save(folder / "noise.safetensors")
    kernel = patch_kernel(model)
    split = Split(seed=0, learn_below=0, validation_below=0, calibration_below=0)
    results = {
        "ingest": (ingest, {}),
        "kernel": (folder, {"rtol": None, "modulo_shift": False, "nullity": kernel.nullity}),
        "search": (folder, {"split": asdict(split), "relative_norm": 0.5, "epsilon": 0.05}),
    }
    return {name: Done(place, result, 0.0, reused=False) for name, (place, result) in results.items()}


def workers(spec: Any, made: dict[str, Any], folder: Path) -> Iterator[tuple[str, Any]]:
    """Each question's name and a worker that asks it."""
    from importlib import import_module

    from pipelines.evaluations.base import Asked

    for name in QUESTIONS:
        question = import_module(f"pipelines.evaluations.{name}.rows").EVALUATION
        asked = Asked(question.settings(), spec, 0, made)
        yield name, question.worker(str(folder), asked, "cpu", "")


def conditions(name: str, worker: Any, shard: Any) -> Seconds:
    """Seconds of every condition of one question, for the shard's images in one batch."""
    from pipelines.evaluations.base import ImageBatch

    def batch(count: int) -> ImageBatch:
        saved = shard.images[:count]
        images = saved.float() / 255
        before = worker.model.outputs_from_tokens(worker.model.tokens(images))
        return ImageBatch(shard.ids[:count], shard.labels[:count], saved, images, before, first=0, keep=0)

    for _ in worker.conditions(batch(2)):
        pass  # what is made once for all images
    asked, found = batch(len(shard.ids)), {}
    begun = time.process_time()
    for condition, _ in worker.conditions(asked):
        found[f"{name}: {condition}"], begun = time.process_time() - begun, time.process_time()
    return found


def in_checkout(checkout: Path, options: argparse.Namespace) -> Seconds:
    """As `measured`, in a process of its own whose code is that of a checkout."""
    here = Path(__file__).resolve()
    paths = os.pathsep.join([str(checkout), str(here.parent)])
    command = [sys.executable, str(here), "--assets", str(options.assets), "--images", str(options.images), "--once"]
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, env=environment, cwd=checkout, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise SystemExit(ended.stderr)
    return json.loads(ended.stdout.splitlines()[-1])


def rows(least: dict[str, Seconds], count: int) -> Iterator[dict[str, Any]]:
    """Images per second of a core by condition, and of each question as a whole."""
    names = list(least["now"])
    totals = {which: dict(_totals(found)) for which, found in least.items()}
    for name in [*names, *totals["now"]]:
        seconds = {which: (found | totals[which]).get(name) for which, found in least.items()}
        row: dict[str, Any] = {"what": name, "images": count}
        row |= {f"{which}, images/s": 1 / s for which, s in seconds.items() if s}
        before, now = seconds.get("before"), seconds["now"]
        if before and now:
            row["times as fast"] = before / now
        yield row


def _totals(found: Seconds) -> Iterator[tuple[str, float]]:
    for each in QUESTIONS:
        yield f"{each}, in all", sum(seconds for name, seconds in found.items() if name.startswith(f"{each}:"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, required=True, help="folder of weights and images")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--before", type=Path, help="another checkout of this repository")
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)  # one round, as JSON
    options = parser.parse_args()
    if options.once:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(measured(options.assets, options.images, Path(folder))))
        return
    from common import report

    checkouts = {"before": options.before, "now": Path(__file__).resolve().parents[1]}
    rounds = [
        {which: in_checkout(checkout.resolve(), options) for which, checkout in checkouts.items() if checkout}
        for _ in range(options.rounds)
    ]
    least = {
        which: {name: min(each[which][name] for each in rounds) for name in rounds[0][which]} for which in rounds[0]
    }
    report("questions of a model that costs nothing", list(rows(least, options.images)))


if __name__ == "__main__":
    main()
