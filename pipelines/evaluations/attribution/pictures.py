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
from pipelines.evaluations.pictures import keep


def keep_maps(
    model: SplitViT, out: Path, batch: ImageBatch, way: Way, pictures: Tensor, maps: Maps, names: Collection[str]
) -> None:
    """The pictures of a way, and those of their maps that are called `names`, laid over them."""
    shown = {map_picture(way, name): laid_over(pictures, as_drawn(model, maps[name])) for name in names if name in maps}
    keep(out, batch, {picture(way): pictures, **shown})


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
            keep(out, batch, {map_picture(each, PIXEL_PICTURE): laid_over(seen, drawn)})
        keep_maps(model, out, batch, way, some, {}, ())
    else:
        maps = {way.map: map_named(way.map)(model, some, kinds).detach()}
        keep_maps(model, out, batch, way, some, maps, (way.map,))
    keep(out, batch, {}, {f"{picture(way)}_difference": (base, pictures)})
