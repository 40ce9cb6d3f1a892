"""How alike the maps of images are before and after, and whether they mean anything."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from torch import Tensor

from nullspace.attribution.compare import centre_shift, pearson, spearman, top_intersection
from nullspace.attribution.deletion import area, deletion
from nullspace.attribution.gradients import gradient
from nullspace.attribution.maps import map_named
from nullspace.attribution.overlay import as_drawn
from nullspace.attribution.steering import map_of
from nullspace.model.vit import SplitViT
from pipelines.evaluations.attribution.ways import LIKENESS, PIXELS
from pipelines.evaluations.image_quality import ssim

Maps = Mapping[str, Tensor]
"""Maps (n,N) over patch tokens, by name."""
TOP = 4  # the largest N/TOP tokens


class Measures:
    """Maps of one model, and their figures."""

    def __init__(self, model: SplitViT, names: Collection[str]) -> None:
        """`names` are the maps that the model has."""
        self.model, self.found = model, {name: map_named(name) for name in names}

    def maps(self, images: Tensor, classes: Tensor, *, model: SplitViT | None = None) -> Maps:
        """All maps of images (n,3,H,W) for `classes` (n,); of another `model`, where one is given."""
        seen = self.model if model is None else model
        return {name: found(seen, images, classes).detach() for name, found in self.found.items()}

    def alike(self, before: Maps, after: Maps) -> dict[str, Tensor]:
        """Columns of `LIKENESS` for every map."""
        columns = {}
        for name, one in before.items():
            other = after[name]
            figures = (
                spearman(one, other),
                top_intersection(one, other, max(1, one.shape[1] // TOP)),
                pearson(one, other),
                ssim(as_drawn(self.model, one), as_drawn(self.model, other)),
                centre_shift(one, other, self.model.grid, self.model.patch_size),
            )
            columns |= {f"{measure}_{name}": each for measure, each in zip(LIKENESS, figures, strict=True)}
        return columns

    def pixels(self, images: Tensor, pictures: Tensor, classes: Tensor, share: float) -> dict[str, Tensor]:
        """How many of the `share` of pixels with the largest input × gradient still are among them."""
        one, other = (self.pixel_map(each, classes).flatten(1) for each in (images, pictures))
        return {PIXELS: top_intersection(one, other, count_of(share, one.shape[1]))}

    def pixel_map(self, images: Tensor, classes: Tensor) -> Tensor:
        """|input × gradient| (n,H,W), summed over channels."""
        return map_of(self.model, images, gradient(self.model, images, classes)).abs()

    def deleted(self, images: Tensor, classes: Tensor, maps: Maps) -> dict[str, Tensor]:
        """Area under the deletion curve of every map, with cells along the patches of the model and across them."""
        ways = {"along": False, "across": True}
        return {
            f"deletion_{way}_{name}": area(deletion(self.model, images, classes, each, across=across))
            for name, each in maps.items()
            for way, across in ways.items()
        }


def count_of(share: float, pixels: int) -> int:
    """How many pixels a share of them is."""
    return max(1, round(share * pixels))


def map_names(columns: Collection[str], measure: str) -> list[str]:
    """The maps that a measure was taken of, from names of columns."""
    return [name.removeprefix(f"{measure}_") for name in columns if name.startswith(f"{measure}_")]
