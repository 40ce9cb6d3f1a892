"""Adversarial pictures kept for people to look at, with what the model says of each."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from nullspace.model.vit import Outputs
from pipelines.engine.class_names import ClassNames
from pipelines.evaluations.base import ImageBatch
from pipelines.evaluations.pictures import save_difference, save_picture
from pipelines.files import read_json, write_json
from pipelines.wording import format_percent


def keep(folder: Path, name: str, batch: ImageBatch, pictures: Tensor, answer: Outputs, names: ClassNames) -> None:
    """The first pictures of a batch as PNG files beside their images, with amplified differences and captions."""
    for number in range(batch.keep):
        folder.mkdir(exist_ok=True)
        stem = folder / f"{batch.first + number:02d}"
        save_picture(Path(f"{stem}_image.png"), batch.images[number])
        save_picture(Path(f"{stem}_{name}.png"), pictures[number])
        save_difference(Path(f"{stem}_{name}_difference.png"), batch.images[number], pictures[number])
        captions = Path(f"{stem}.json")
        known = read_json(captions) if captions.is_file() else {}
        said = {"image": _said(batch.before, number, names), name: _said(answer, number, names)}
        write_json(captions, known | said)


def _said(outputs: Outputs, number: int, names: ClassNames) -> str:
    """The model's class of an image and its probability: 'goldfinch 97.1 %'."""
    share, kind = outputs.logits[number].double().softmax(dim=0).max(dim=0)
    return f"{names[int(kind)]} {format_percent(float(share))}"
