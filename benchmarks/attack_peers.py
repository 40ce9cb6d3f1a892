"""AutoAttack in its standard version on deit_tiny: the yardstick of `bench_attacks.py`, on the same images.

    pip install 'nullspace-vit[attacks]'
    python benchmarks/attack_peers.py --assets FOLDER --epsilon 1 4 --out results/attack_peers

Writes `OUT.json` after each batch: for each ε (of 255, Linf) and image whether it was robust, and the images that went
through the network forward and backward. Images and labels are those of `bench_attacks.py`, from --start on.
"""

from __future__ import annotations

import json

import torch
from attack_data import labelled_images
from common import assets_parser, deit_tiny, with_assets
from torch import Tensor, nn

from nullspace.model.vit import SplitViT


class Counted(nn.Module):
    """A model that counts the images that pass through it, forward and backward."""

    def __init__(self, model: SplitViT) -> None:
        super().__init__()
        self.model, self.forwards, self.backwards = model, 0, 0

    def forward(self, images: Tensor) -> Tensor:
        self.forwards += len(images)
        logits = self.model(images, check_range=False)
        if logits.requires_grad:
            logits.register_hook(self._back)
        return logits

    def _back(self, slope: Tensor) -> None:
        self.backwards += len(slope)


def main() -> None:
    from pyautoattack import AutoAttack  # pyright: ignore[reportMissingImports]

    parser = assets_parser(__doc__, out="results/attack_peers")
    parser.add_argument("--epsilon", type=float, nargs="+", default=[1, 4], help="of 255")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--batch", type=int, default=4)
    arguments = with_assets(parser)
    model = Counted(deit_tiny(arguments.assets).to(arguments.device))
    rows: list[dict[str, float | bool]] = []
    for first in range(arguments.start, arguments.start + arguments.images, arguments.batch):
        images, labels = labelled_images(arguments.assets, model.model, arguments.batch, start=first)
        for epsilon in arguments.epsilon:
            model.forwards = model.backwards = 0
            attack = AutoAttack(model, norm="Linf", eps=epsilon / 255, seed=0, device=arguments.device)
            found = attack.run_standard_evaluation(images, labels, batch_size=arguments.batch)
            pictures = found[0] if isinstance(found, tuple) else found
            with torch.no_grad():
                robust = model.model(pictures).argmax(dim=1).cpu() == labels
            passes = {"forwards": model.forwards / len(images), "backwards": model.backwards / len(images)}
            rows += [{"image": first + row, "epsilon": epsilon, "robust": bool(robust[row]), **passes}
                     for row in range(len(images))]  # fmt: skip
            arguments.out.with_suffix(".json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
            print(f"ε {epsilon:g}/255, images {first} to {first + len(images) - 1}: {passes}", flush=True)


if __name__ == "__main__":
    main()
