"""Pictures and maps kept for people to look at."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from torch import Tensor

from nullspace.attribution.maps import map_named
from nullspace.attribution.overlay import as_drawn, laid_over, pixels_as_drawn
from nullspace.model.vit import SplitViT
from pipelines.evaluations.attribution.measures import Maps, Measures
from pipelines.evaluations.attribution.ways import CLEAN, PIXEL_PICTURE, STEERED, Way, map_picture, picture
from pipelines.evaluations.base import ImageBatch
from pipelines.evaluations.pictures import save_difference, save_picture


def keep_maps(
    model: SplitViT, out: Path, batch: ImageBatch, way: Way, pictures: Tensor, maps: Maps, names: Collection[str]
) -> None:
    """The pictures of a way, and those of their maps that are called `names`, laid over them."""
    shown = {name: laid_over(pictures, as_drawn(model, maps[name])) for name in names if name in maps}
    for number in range(batch.keep):
        save_picture(_file(out, batch, number, picture(way)), pictures[number])
        for name, laid in shown.items():
            save_picture(_file(out, batch, number, map_picture(way, name)), laid[number])


def keep_pictures(
    out: Path, batch: ImageBatch, way: Way, base: Tensor, pictures: Tensor, measures: Measures, classes: Tensor
) -> None:
    """The pictures of a way with their amplified change, and the map that it is about."""
    count = batch.keep
    if not count:
        return
    model, some, kinds = measures.model, pictures[:count], classes[:count]
    if way.name == STEERED.name:
        for each, seen in ((CLEAN, base[:count]), (way, some)):
            drawn = pixels_as_drawn(measures.pixel_map(seen, kinds))
            for number, laid in enumerate(laid_over(seen, drawn)):
                save_picture(_file(out, batch, number, map_picture(each, PIXEL_PICTURE)), laid)
        keep_maps(model, out, batch, way, some, {}, ())
    else:
        maps = {way.map: map_named(way.map)(model, some, kinds).detach()}
        keep_maps(model, out, batch, way, some, maps, (way.map,))
    for number in range(count):
        save_difference(_file(out, batch, number, f"{picture(way)}_difference"), base[number], pictures[number])


def _file(out: Path, batch: ImageBatch, number: int, name: str) -> Path:
    folder = out / "examples"
    folder.mkdir(exist_ok=True)
    return folder / f"{batch.first + number:02d}_{name}.png"
