"""Verdicts beside AutoAttack where images stay robust: the packaged digits model, at sizes that break a part of them.

    pip install 'nullspace-vit[attacks]'
    python benchmarks/bench_attack_digits.py --images 120 --epsilon 2 3 4 --out results/attack_digits

deit_tiny keeps no image robust at the usual sizes (`bench_attacks.py`), and AutoAttack's passes for one that stays
robust would take it 20 minutes; here they take seconds. Held-out digits, both with equal budgets: AutoAttack's standard
version, and `attacked` with 100 steps and 5000 queries. Robust counts are upper bounds of the same number, so the lower
one is right where they differ. Passes are those of the network for each image, forward and backward together.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from attack_peers import Counted
from common import share, write
from torch import Tensor

from nullspace.metrics.draws import Draws
from nullspace.model.images import from_uint8
from nullspace.model.vit import SplitViT
from nullspace.robustness.attacks.cascade import Cascade, attacked
from pipelines import digits
from pipelines.digits import data

BUDGET = Cascade(pgd_steps=10, steps=100, queries=5000)
"""AutoAttack's, with ten steps of PGD before."""


def main() -> None:
    arguments = _arguments()
    digits.register()
    model = SplitViT.load(digits.MODEL_NAME)
    images, labels = _digits(arguments.images)
    rows: list[dict[str, Any]] = []
    for epsilon in arguments.epsilon:
        rows.append(_row(model, images, labels, epsilon, arguments.batch))
        write(arguments.out, "Attacks on the digits model, beside AutoAttack", rows, facts={"clean": _clean(model)})
        print(rows[-1], flush=True)


def _digits(count: int) -> tuple[Tensor, Tensor]:
    """The first held-out digits (n,3,H,W) in [0,1] and their labels (n,)."""
    found = data.load("held_out")
    images = torch.from_numpy(found.images[:count]).permute(0, 3, 1, 2).contiguous()
    return from_uint8(images), torch.from_numpy(found.labels[:count]).long()


def _clean(model: SplitViT) -> str:
    images, labels = _digits(len(data.load("held_out").ids))
    with torch.inference_mode():
        hits = torch.cat([model(part).argmax(dim=1) for part in images.split(64)]) == labels
    return f"{share(hits)}, n = {len(hits)}"


def _row(model: SplitViT, images: Tensor, labels: Tensor, epsilon: float, batch: int) -> dict[str, Any]:
    """Both verdicts at one ε, of 255."""
    draws = Draws(0, "bench_attack_digits", [str(number) for number in range(len(images))])
    ours = attacked(model, images, labels, draws, norm="linf", epsilons=[epsilon / 255], cascade=BUDGET)
    theirs, passes = _autoattack(model, images, labels, epsilon, batch)
    robust = ours.robust[0].cpu()
    return {
        "Linf": f"{epsilon:g}/255", "n": len(images), "robust": share(robust), "robust, AutoAttack": share(theirs),
        "equal verdicts": f"{int((robust == theirs).sum())} of {len(images)}",
        "broken by ours alone": int((theirs & ~robust).sum()), "by AutoAttack alone": int((robust & ~theirs).sum()),
        "passes": float((ours.forwards[0] + ours.backwards[0]).double().mean()), "AutoAttack's passes": passes,
    }  # fmt: skip


def _autoattack(model: SplitViT, images: Tensor, labels: Tensor, epsilon: float, batch: int) -> tuple[Tensor, float]:
    """Whether each image (n,) is robust to AutoAttack's standard version, and its passes per image."""
    from pyautoattack import AutoAttack  # pyright: ignore[reportMissingImports]

    counted = Counted(model)
    attack = AutoAttack(counted, norm="Linf", eps=epsilon / 255, seed=0, device="cpu")
    found = attack.run_standard_evaluation(images, labels, batch_size=batch)
    pictures = found[0] if isinstance(found, tuple) else found
    with torch.inference_mode():
        robust = model(pictures, check_range=False).argmax(dim=1) == labels
    return robust, (counted.forwards + counted.backwards) / len(images)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=120)
    parser.add_argument("--epsilon", type=float, nargs="+", default=[2, 3, 4], help="of 255")
    parser.add_argument("--batch", type=int, default=60)
    parser.add_argument("--out", type=Path, default=Path("results/attack_digits"), help="name without ending")
    return parser.parse_args()


if __name__ == "__main__":
    main()
