"""Fooled pictures kept for people to look at, with what the model says of each."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from nullspace.model.vit import Outputs
from pipelines.engine.class_names import ClassNames
from pipelines.evaluations.base import ImageBatch
from pipelines.evaluations.fooling.measures import Pair
from pipelines.evaluations.fooling.ways import Way
from pipelines.evaluations.pictures import keep, keep_captions


def keep_examples(
    out: Path, way: Way, batch: ImageBatch, pair: Pair, fooled: Tensor, answer: Outputs, names: ClassNames
) -> None:
    """Pictures of the first images of a batch: the image, the look, the fooled picture, its amplified difference."""
    shown = {"image": (pair.images, pair.of_images), way.name: (fooled, answer)}
    if way.look == "image" and way.universal is None:
        shown["look"] = (pair.look, pair.of_look)
    base = pair.images if way.keeps_image else pair.look
    pictures = {name: images for name, (images, _) in shown.items()}
    keep(out, batch, pictures, {f"{way.name}_difference": (base, fooled)})
    keep_captions(out, batch, names, {name: outputs for name, (_, outputs) in shown.items()})
