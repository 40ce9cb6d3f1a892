"""Images as PNG files for people, `examples/NN_name.png` in a stage's folder, with what the model says of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from PIL import Image
from torch import Tensor

from nullspace.model.vit import Outputs
from pipelines.engine.class_names import ClassNames
from pipelines.evaluations.base import ImageBatch
from pipelines.files import read_json, write_json, written_aside
from pipelines.wording import format_percent

DIFFERENCE_GAIN = 4.0


def keep(
    out: Path,
    batch: ImageBatch,
    pictures: Mapping[str, Tensor],
    differences: Mapping[str, tuple[Tensor, Tensor]] | None = None,
) -> None:
    """The first pictures of a batch, as many as are wanted of it, in the stage's folder `out`.

    `pictures` are images (n,3,H,W) in [0,1] by name, n at least as many as are kept; `differences` are pairs of such
    images, of which the amplified change from first to second is kept.
    """
    for number in range(batch.keep):
        for name, images in pictures.items():
            save_picture(_file(out, batch, number, f"_{name}.png"), images[number])
        for name, (before, after) in (differences or {}).items():
            save_difference(_file(out, batch, number, f"_{name}.png"), before[number], after[number])


def keep_captions(out: Path, batch: ImageBatch, names: ClassNames, outputs: Mapping[str, Outputs]) -> None:
    """What the model says of the pictures that are kept, by their names: 'goldfinch 97.1 %'."""
    for number in range(batch.keep):
        file = _file(out, batch, number, ".json")
        known = read_json(file) if file.is_file() else {}
        write_json(file, known | {name: _caption(each, number, names) for name, each in outputs.items()})


def _caption(outputs: Outputs, number: int, names: ClassNames) -> str:
    share, kind = outputs.logits[number].double().softmax(dim=0).max(dim=0)
    return f"{names[int(kind)]} {format_percent(float(share))}"


def _file(out: Path, batch: ImageBatch, number: int, end: str) -> Path:
    folder = out / "examples"
    folder.mkdir(exist_ok=True)
    return folder / f"{batch.first + number:02d}{end}"


def save_picture(path: Path, image: Tensor) -> None:
    """Write an image (3,H,W) as PNG; values outside [0,1], which no file can hold, are clipped."""
    pixels = (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    with written_aside(path) as aside:
        Image.fromarray(pixels).save(aside, format="PNG")


def save_difference(path: Path, before: Tensor, after: Tensor) -> None:
    """Write the change of an image around mid-grey, amplified by DIFFERENCE_GAIN."""
    save_picture(path, 0.5 + DIFFERENCE_GAIN * (after - before))
