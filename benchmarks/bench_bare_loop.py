"""What questions cost beside the passes of the model that they make: each, and a bare loop of the same passes.

    python benchmarks/bench_bare_loop.py --assets FOLDER --images 8 --out results/bare_loop

deit_tiny, photographs of the assets. While a question is asked, the batch size of every pass is written down, and
whether its gradient was taken, too; the bare loop makes these passes again on a fixed batch and does nothing else. The
share is the loop's time over that of the question: 1 is one that costs nothing beside its passes. Time is that of
the process, which other work on the machine disturbs less; both in turn, the least of all rounds.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from bench_ceiling import inputs, write_shard
from common import DEIT, assets_parser, with_assets, write
from torch import Tensor

from nullspace.model.vit import SplitViT
from pipelines.data.shards import read_shard, shard_path
from pipelines.engine.models import learn_facts
from pipelines.engine.settings import ModelSettings
from pipelines.evaluations.base import Asked, ImageBatch

QUESTIONS: dict[str, dict[str, Any]] = {
    "adversarial": {"steps": 20, "examples": 0},
    "corruption": {"severities": [3], "examples": 0},
    "kernel_noise": {"examples": 0},
}
"""Each with the settings that differ from the defaults."""


class Passes:
    """The batch size of every pass of a model, and whether its gradient was taken, in their order."""

    def __init__(self) -> None:
        self.found: list[list[Any]] = []

    @contextmanager
    def of(self, model: SplitViT) -> Iterator[None]:
        """Writes down the passes that are made meanwhile."""
        blocks: Any = model.model.blocks
        handle = blocks[0].register_forward_hook(self._passed)
        try:
            yield
        finally:
            handle.remove()

    def _passed(self, block: Any, given: Any, output: Tensor) -> None:
        own = [len(output), False]
        self.found.append(own)
        if output.requires_grad:
            output.register_hook(lambda _: own.__setitem__(1, True))


def main() -> None:
    parser = assets_parser(__doc__, out="results/bare_loop")
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=2)
    arguments = with_assets(parser)
    torch.set_num_threads(1)
    weights = str(arguments.assets / DEIT / "model.safetensors")
    spec = learn_facts(ModelSettings(name=DEIT, weights=weights), seed=0)[0].spec
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        ingest = write_shard(arguments.assets, arguments.images, folder)
        stages, shard = inputs(spec, ingest, folder), read_shard(shard_path(ingest, "000000"))
        for name, settings in QUESTIONS.items():
            question = import_module(f"pipelines.evaluations.{name}.rows").EVALUATION
            asked = Asked(question.settings.model_validate(settings), spec, 0, stages)
            worker = question.worker(str(folder), asked, "cpu", "")
            rows.append(_row(name, worker, shard, arguments.rounds))
            write(arguments.out, "Questions beside a bare loop of their passes", rows)
            print(rows[-1], flush=True)


def _row(name: str, worker: Any, shard: Any, rounds: int) -> dict[str, Any]:
    batch, passes = _batch(worker.model, shard), Passes()

    def ask() -> None:
        with torch.no_grad() if worker.gradients else torch.inference_mode():  # as workers do
            for _ in worker.conditions(batch):
                pass

    with passes.of(worker.model):
        ask()  # also what is made once for all images
    times = [(_seconds(ask), _seconds(lambda: _bare(worker.model, batch.images, passes.found))) for _ in range(rounds)]
    whole, bare = (min(each) for each in zip(*times, strict=True))
    forwards = sum(size for size, _ in passes.found) / len(shard.ids)
    backwards = sum(size for size, gradient in passes.found if gradient) / len(shard.ids)
    return {
        "question": name, "images": len(shard.ids), "passes forward": forwards, "backward": backwards,
        "s per image": whole / len(shard.ids), "bare loop": bare / len(shard.ids), "share": bare / whole,
    }  # fmt: skip


def _batch(model: SplitViT, shard: Any) -> ImageBatch:
    images = shard.images.float() / 255
    with torch.no_grad():
        before = model.outputs_from_tokens(model.tokens(images))
    return ImageBatch(shard.ids, shard.labels, shard.images, images, before, first=0, keep=0)


def _bare(model: SplitViT, images: Tensor, passes: list[list[Any]]) -> None:
    for size, gradient in passes:
        given = images.repeat(-(-size // len(images)), 1, 1, 1)[:size]
        with torch.set_grad_enabled(gradient):
            point = given.detach().requires_grad_(gradient)
            logits = model(point, check_range=False)
            if gradient:
                torch.autograd.grad(logits.sum(), point)


def _seconds(work: Callable[[], None]) -> float:
    begun = time.process_time()
    work()
    return time.process_time() - begun


if __name__ == "__main__":
    main()
