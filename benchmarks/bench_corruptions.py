"""What the 15 corruptions of ImageNet-C cost, and what they do to deit_tiny.

    python benchmarks/bench_corruptions.py --assets FOLDER --out results/corruptions

For each corruption, over 5 severities: milliseconds of the processor per image; error and predictions unchanged, means
over images of the mean over severities of each, with half the width of the 95 % interval; the share of the change's
energy in the kernel of the patch embedding; root mean square of the change, of 255. Above the table the figures over
all 75: mean error, and mCE, which is relative to AlexNet. The files are written after every batch.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from columns import Columns
from common import asset_images, asset_labels, assets_parser, deit_tiny, with_assets, write
from torch import Tensor

from nullspace.fooling.exact import kernel_share
from nullspace.kernel.patch_kernel import PatchKernel
from nullspace.kernel.shift import exact_kernel
from nullspace.model.images import from_uint8, round_to_uint8
from nullspace.model.vit import SplitViT
from nullspace.robustness.corruptions.corruption import Corruption, corrupted
from nullspace.robustness.corruptions.names import NAMES, SEVERITIES
from nullspace.robustness.mean_error import corruption_error, mean_error

FIGURES = ("error", "unchanged", "share in the kernel", "rms of the change, of 255")


@dataclass
class Measured:
    """Figures of all images so far: for each corruption, and over all of them."""

    model: SplitViT
    kernel: PatchKernel
    kinds: dict[str, Columns] = field(default_factory=lambda: {name: Columns(name) for name in NAMES})
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(NAMES, 0.0))
    whole: Columns = field(default_factory=lambda: Columns("all"))
    images: int = 0

    @torch.no_grad()
    def add(self, saved: Tensor, labels: Tensor, ids: list[str]) -> None:
        """Images (n,3,H,W) uint8 and their classes (n,)."""
        clean = self.model(from_uint8(saved)).argmax(dim=1)
        errors = {name: self._kind(name, saved, labels, clean, ids) for name in NAMES}
        wrong = (clean != labels).double()
        self.whole.add("clean error", wrong)
        self.whole.add("mean error", mean_error(errors))
        self.whole.add("mean error less clean error", mean_error(errors) - wrong)
        self.whole.add("mCE", corruption_error(errors))
        self.images += len(saved)

    def _kind(self, name: str, saved: Tensor, labels: Tensor, clean: Tensor, ids: list[str]) -> Tensor:
        """Adds the figures of one corruption; gives the errors (n,), mean over severities."""
        found = torch.zeros(len(FIGURES), len(saved), dtype=torch.float64)
        for severity in SEVERITIES:
            began = time.process_time()
            made = corrupted(saved, Corruption(name, severity), ids)
            self.seconds[name] += time.process_time() - began
            change = from_uint8(made) - from_uint8(saved)
            said = self.model(from_uint8(made)).argmax(dim=1)
            share = kernel_share(self.model.patchify(change), self.kernel)
            size = 255 * change.square().mean(dim=(1, 2, 3)).sqrt()
            found += torch.stack([(said != labels).double(), (said == clean).double(), share.double(), size.double()])
        for figure, values in zip(FIGURES, found / len(SEVERITIES), strict=True):
            self.kinds[name].add(figure, values)
        return found[0] / len(SEVERITIES)

    def rows(self) -> Iterator[dict[str, str]]:
        count = self.images * len(SEVERITIES)
        for name, columns in self.kinds.items():
            yield {
                "corruption": name,
                "ms per image": f"{1000 * self.seconds[name] / count:.1f}",
                **{figure: columns.mean(figure) for figure in FIGURES},
            }

    def facts(self) -> dict[str, str | int]:
        kernel, cost = self.kernel, sum(self.seconds.values()) / self.images / len(SEVERITIES) / len(NAMES)
        return {
            "n": self.images,
            "ms per image, mean over the 75": f"{1000 * cost:.1f}",
            **{name: self.whole.mean(name) for name in self.whole.values},
            "share of white noise in the kernel": f"{kernel.nullity / kernel.patch_dim:.4f}",
        }


def main() -> None:
    arguments = _arguments()
    model = deit_tiny(arguments.assets)
    measured = Measured(model, exact_kernel(model))
    labels = asset_labels(arguments.assets, arguments.images)
    saved = round_to_uint8(asset_images(arguments.assets, model, arguments.images))
    for start in range(0, len(saved), arguments.batch):
        part = slice(start, start + arguments.batch)
        ids = [str(number) for number in range(start, start + len(saved[part]))]
        measured.add(saved[part], labels[part], ids)
        title = "The corruptions of ImageNet-C, and deit_tiny under them"
        write(arguments.out, title, list(measured.rows()), facts=measured.facts())
        print(f"{measured.images} of {len(saved)} images", flush=True)


def _arguments() -> argparse.Namespace:
    parser = assets_parser(__doc__, out="results/corruptions")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--batch", type=int, default=8)
    return with_assets(parser)


if __name__ == "__main__":
    main()
