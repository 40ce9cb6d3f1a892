"""Draws docs/demo.png: digits under kernel noise and under the same noise permuted, and how agreement falls.

python docs/demo_picture.py
"""

from __future__ import annotations

from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from nullspace.kernel import PatchKernel, patch_kernel
from nullspace.vit import SplitViT
from pipelines.digits.data import load
from pipelines.models import load_model

SHOWN_RMS = 3.0
CURVE_RMS = (0.25, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0)
COLUMNS = 8
BLUE, GREY, RED = "#1f5fbf", "#8a8f98", "#c0392b"


def noises(model: SplitViT, kernel: PatchKernel, count: int, rms: float) -> tuple[Tensor, Tensor]:
    """Kernel noise for `count` images (count,3,64,64), and the same numbers in random order."""
    source = torch.Generator().manual_seed(0)
    drawn = torch.stack([kernel.sample(model.num_patches, rms=rms, generator=source) for _ in range(count)])
    order = torch.argsort(torch.rand(drawn.flatten(1).shape, generator=source), dim=1)
    permuted = drawn.flatten(1).gather(1, order).reshape(drawn.shape)
    return model.unpatchify(drawn.float()), model.unpatchify(permuted.float())


def predictions(model: SplitViT, images: Tensor) -> Tensor:
    return model(images, check_range=False).argmax(dim=-1)


@torch.no_grad()
def draw(out: Path) -> None:
    model = load_model("nullspace_digits_vit", "pretrained", seed=0, device="cpu")
    kernel = patch_kernel(model)
    images = torch.from_numpy(load("held_out").images).permute(0, 3, 1, 2).float() / 255
    clean = predictions(model, images)
    figure = Figure(figsize=(11, 3.3), dpi=130)
    grid, curve = figure.subfigures(1, 2, width_ratios=(1.75, 1))
    exact, permuted = noises(model, kernel, COLUMNS, SHOWN_RMS)
    rows = {
        "image": images[:COLUMNS],
        "+ kernel noise": images[:COLUMNS] + exact,
        "permuted": images[:COLUMNS] + permuted,
    }
    axes = grid.subplots(3, COLUMNS, gridspec_kw={"wspace": 0.08, "hspace": 0.42})
    for line, (title, shown) in zip(axes, rows.items(), strict=True):
        said = predictions(model, shown)
        for column, axis in enumerate(line):
            axis.imshow(shown[column].clamp(0, 1).permute(1, 2, 0), interpolation="nearest")
            same = said[column] == clean[column]
            axis.set_title(f"says {said[column]}", fontsize=8, color="black" if same else RED, pad=2)
            axis.set_xticks([])
            axis.set_yticks([])
        line[0].set_ylabel(title, fontsize=9)
    axis = curve.subplots()
    for label, which, colour in (("kernel noise", 0, BLUE), ("the same noise, permuted", 1, GREY)):
        shares = [
            float((predictions(model, images + noises(model, kernel, len(images), rms)[which]) == clean).float().mean())
            for rms in CURVE_RMS
        ]
        axis.plot(CURVE_RMS, [100 * share for share in shares], marker="o", markersize=4, color=colour, label=label)
    axis.set_xlabel("RMS of the noise (normalised pixel units)")
    axis.set_ylabel("predictions unchanged, %")
    axis.set_ylim(0, 104)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize=9, loc="lower left")
    curve.subplots_adjust(bottom=0.17, left=0.17, top=0.95)
    grid.subplots_adjust(left=0.05, right=0.99, top=0.93, bottom=0.02)
    figure.savefig(out, metadata={"Software": None})


if __name__ == "__main__":
    draw(Path(__file__).with_name("demo.png"))
