"""One change of pixels for all images of a run: learned before any is asked, from images that are not drawn."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import pyarrow as pa
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from nullspace.fooling.universal import universal_change
from nullspace.model.images import from_uint8
from pipelines.data.shards import ids_of, read_shard, shard_path
from pipelines.engine.workers.shard_workers import ShardWorker
from pipelines.evaluations.base import Asked, Preparation
from pipelines.evaluations.drawn import first_of, shards_of
from pipelines.evaluations.fooling.settings import FoolingSettings
from pipelines.evaluations.fooling.ways import universal_way
from pipelines.files import written_aside

FEWEST = 8  # images to learn from
_IMAGES_PER_STEP = 16


class UniversalChanges(ShardWorker):
    """Learns the change of one size after the other; a "shard" is the name of one."""

    prefix = "change"

    def __init__(self, out: str, asked: Asked[FoolingSettings], device: str) -> None:
        super().__init__(out)
        self.asked, self.model = asked, asked.model.load(device)
        self.sizes = {universal_way(rms).name: rms for rms in asked.settings.universal}

    def table(self, shard: str, read: None) -> pa.Table:
        settings, exact = self.asked.settings, self.asked.inputs["kernel"].result
        change = universal_change(
            self.model,
            self._images,
            rms=self.sizes[shard] / 255,
            modulo_shift=exact["modulo_shift"],
            steps=settings.universal_steps,
            batch=_IMAGES_PER_STEP,
            seed=self.asked.seed,
        )
        spec = self.asked.model
        known = {"model": spec.name, "weights_sha256": spec.weights_sha256, "rms": f"{self.sizes[shard]:g}/255"}
        with written_aside(change_file(self.out, shard)) as aside:
            save_file({"change": change.cpu().contiguous()}, aside, metadata=known)
        return pa.table({"id": [shard]})  # its row marks the shard as done, so the file is written first

    @cached_property
    def _images(self) -> Tensor:
        """Images (n,3,H,W) in [0,1] that are learned from, in keyed order: none that is asked about."""
        ingest, drawn = self.asked.inputs["ingest"].folder, self.asked.drawn or frozenset()
        left = (id_ for _, ids in ids_of(ingest) for id_ in ids if id_ not in drawn)
        wanted = first_of(left, self.asked.settings.universal_images, "universal", self.asked.seed)
        found = dict.fromkeys(wanted, torch.empty(0))
        for name in shards_of(ingest, found.keys()):
            shard = read_shard(shard_path(ingest, name))
            found |= {id_: shard.images[at] for at, id_ in enumerate(shard.ids) if id_ in found}
        return from_uint8(torch.stack(list(found.values())))


def left_over(asked: Asked[FoolingSettings]) -> int:
    """How many images of the run are not asked about, and can be learned from."""
    return 0 if asked.drawn is None else asked.inputs["ingest"].result["ids"]["count"] - len(asked.drawn)


def learns(asked: Asked[FoolingSettings]) -> bool:
    """Whether changes are asked for, and there are enough images to learn them from."""
    return bool(asked.settings.universal) and left_over(asked) >= FEWEST


def few_images(asked: Asked[FoolingSettings]) -> str:
    """Why no change for all images was learned."""
    return (
        f"fooling: no change for all images was learned: {left_over(asked)} images are left beside the "
        f"{asked.settings.pairs} pairs, and {FEWEST} are needed; give more images or ask of fewer pairs (fooling.pairs)"
    )


def preparation(asked: Asked[FoolingSettings]) -> Preparation | None:
    """Learning each change, by as many workers as there are."""
    if not learns(asked):
        return None
    images = asked.settings.universal_steps * _IMAGES_PER_STEP
    return Preparation(UniversalChanges, {universal_way(rms).name: images for rms in asked.settings.universal})


def change_file(folder: Path, name: str) -> Path:
    """Where the change of a way is: `change` (3,H,W) in pixels of [0,1]."""
    return folder / f"{name}.safetensors"


def read_change(folder: Path, name: str) -> Tensor:
    """A learned change (3,H,W) of pixels."""
    return load_file(change_file(folder, name))["change"]
