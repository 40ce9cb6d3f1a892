"""Fooled pictures kept for people to look at, with what the model says of each."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from nullspace.model.vit import Outputs
from pipelines.engine.class_names import ClassNames
from pipelines.evaluations.base import ImageBatch
from pipelines.evaluations.fooling.measures import Pair
from pipelines.evaluations.fooling.ways import Way
from pipelines.evaluations.pictures import save_difference, save_picture
from pipelines.files import read_json, write_json
from pipelines.wording import format_percent


def keep_examples(
    folder: Path, way: Way, batch: ImageBatch, pair: Pair, fooled: Tensor, answer: Outputs, names: ClassNames
) -> None:
    """Pictures of the first images of a batch: the image, the look, the fooled picture, its amplified difference."""
    for number in range(batch.keep):
        folder.mkdir(exist_ok=True)
        stem = folder / f"{batch.first + number:02d}"
        shown = {"image": (pair.images, pair.of_images), way.name: (fooled, answer)}
        if way.look == "image" and way.universal is None:
            shown["look"] = (pair.look, pair.of_look)
        for name, (pictures, outputs) in shown.items():
            save_picture(Path(f"{stem}_{name}.png"), pictures[number])
            _caption(Path(f"{stem}.json"), name, says(outputs, number, names))
        base = pair.images if way.keeps_image else pair.look
        save_difference(Path(f"{stem}_{way.name}_difference.png"), base[number], fooled[number])


def says(outputs: Outputs, number: int, names: ClassNames) -> str:
    """The model's class of an image and its probability: 'goldfinch 97.1 %'."""
    share, kind = outputs.logits[number].double().softmax(dim=0).max(dim=0)
    return f"{names[int(kind)]} {format_percent(float(share))}"


def _caption(file: Path, name: str, text: str) -> None:
    known = read_json(file) if file.is_file() else {}
    write_json(file, {**known, name: text})
