"""Attacks on deit_tiny: what is robust at Linf 1/255 and 4/255, what broke the rest, at what cost; smallest changes.

    python benchmarks/bench_attacks.py --assets FOLDER --images 100 --out results/attacks
    python benchmarks/bench_attacks.py --assets FOLDER --peers results/attack_peers.json --out results/attacks

The second sets AutoAttack's verdicts beside ours, for the images that `attack_peers.py` has done so far. Passes are
those of the network for each image, forward and backward together; for each ε they are counted from the image on, as
if no smaller ε had been asked. Smallest: the median L2 of DDN's change, at 40 gradients; with foolbox installed, of
its DDN at as many steps. The file is written again after every batch.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from attack_data import labelled_images
from common import assets_parser, deit_tiny, share, with_assets, write
from torch import Tensor

from nullspace.metrics.draws import Draws
from nullspace.model.vit import SplitViT
from nullspace.robustness.attacks.cascade import attacked
from nullspace.robustness.attacks.smallest import smallest_l2

TITLE = "Attacks on deit_tiny"
EPSILONS = (1.0, 4.0)  # of 255
STEPS = 40


def main() -> None:
    arguments = _arguments()
    model = deit_tiny(arguments.assets).to(arguments.device)
    rows: list[dict[str, Any]] = []
    lengths: dict[str, list[float]] = {}
    for batch in _batches(arguments, model, arguments.images):
        for epsilon in EPSILONS:
            rows += _verdicts(model, batch, epsilon)
        _write(arguments, rows, lengths)
    for batch in _batches(arguments, model, arguments.smallest):
        for name, found in _lengths(model, batch).items():
            lengths.setdefault(name, []).extend(found.tolist())
        _write(arguments, rows, lengths)


@dataclass(frozen=True, eq=False)
class _Batch:
    """Photographs from `first` on."""

    first: int
    images: Tensor
    labels: Tensor
    draws: Draws


def _batches(arguments: Any, model: SplitViT, count: int) -> Iterator[_Batch]:
    for first in range(0, count, arguments.batch):
        images, labels = labelled_images(arguments.assets, model, min(arguments.batch, count - first), start=first)
        draws = Draws(0, "bench_attacks", [str(first + row) for row in range(len(images))], arguments.device)
        yield _Batch(first, images.to(arguments.device), labels.to(arguments.device), draws)


def _write(arguments: Any, rows: list[dict[str, Any]], lengths: dict[str, list[float]]) -> None:
    file: Path | None = arguments.peers
    peers = json.loads(file.read_text(encoding="utf-8")) if file is not None and file.is_file() else []
    write(arguments.out, TITLE, [_row(epsilon, rows, peers) for epsilon in EPSILONS], facts=_facts(rows, lengths))
    print(f"{len(rows) // len(EPSILONS)} photographs, {max(map(len, lengths.values()), default=0)} lengths", flush=True)


def _verdicts(model: SplitViT, batch: _Batch, epsilon: float) -> list[dict[str, Any]]:
    found = attacked(model, batch.images, batch.labels, batch.draws, norm="linf", epsilons=[epsilon / 255])
    passes = (found.forwards[0] + found.backwards[0]).tolist()
    return [
        {"image": batch.first + row, "epsilon": epsilon, "robust": bool(found.robust[0, row]), "by": found.by[0][row],
         "passes": passes[row]} for row in range(len(batch.images))
    ]  # fmt: skip


def _lengths(model: SplitViT, batch: _Batch) -> dict[str, Tensor]:
    """Lengths (n,) of the smallest changes by method, of the images that are right as they are."""
    changes = smallest_l2(model, batch.images, batch.labels, batch.draws, steps=STEPS)
    right = changes.distance > 0
    found = {"DDN": changes.distance[right]}
    chosen = right.to(batch.images.device)
    other = _of_foolbox(model, batch.images[chosen], batch.labels[chosen])
    return found | ({} if other is None else {"foolbox DDN": other})


def _of_foolbox(model: SplitViT, images: Tensor, labels: Tensor) -> Tensor | None:
    """The same by foolbox; None where it is not installed. What it did not fool is infinitely far."""
    try:
        import foolbox  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None
    ask: Callable[[Tensor], Tensor] = lambda points: model(points, check_range=False)  # noqa: E731
    wrapped = foolbox.models.PyTorchModel(_Module(ask).eval(), bounds=(0, 1), device=images.device)
    attack = foolbox.attacks.DDNAttack(steps=STEPS)
    _, pictures, fooled = attack(wrapped, images, labels, epsilons=None)
    return torch.where(fooled.cpu(), (pictures - images).flatten(1).norm(dim=1).cpu(), torch.inf)


class _Module(torch.nn.Module):
    """A function as the module that foolbox asks for."""

    def __init__(self, ask: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.ask = ask

    def forward(self, images: Tensor) -> Tensor:
        return self.ask(images)


def _row(epsilon: float, rows: list[dict[str, Any]], peers: list[Mapping[str, Any]]) -> dict[str, Any]:
    """What is told of one ε."""
    own = [row for row in rows if row["epsilon"] == epsilon]
    counts = Counter(row["by"] or "robust" for row in own)
    told: dict[str, Any] = {
        "Linf": f"{epsilon:g}/255", "n": len(own), "robust": share(torch.tensor([row["robust"] for row in own])),
        "broken by": ", ".join(f"{name} {count}" for name, count in counts.most_common()),
        "passes": sum(row["passes"] for row in own) / len(own),
    }  # fmt: skip
    known = {row["image"]: row for row in peers if row["epsilon"] == epsilon}
    both = [(row, known[row["image"]]) for row in own if row["image"] in known]
    if both:
        theirs = sum(other["forwards"] + other["backwards"] for _, other in both) / len(both)
        equal = sum(row["robust"] == other["robust"] for row, other in both)
        ours = sum(row["passes"] for row, _ in both) / len(both)
        told |= {"equal verdicts": f"{equal} of {len(both)}", "AutoAttack's passes": theirs, "ours there": ours}
    return told


def _facts(rows: list[dict[str, Any]], lengths: dict[str, list[float]]) -> dict[str, Any]:
    clean = torch.tensor([row["by"] != "clean" for row in rows if row["epsilon"] == EPSILONS[0]])
    medians = {
        f"smallest L2, {name}, median over {len(found)} images": float(torch.tensor(found).median())
        for name, found in lengths.items()
    }
    return {"clean accuracy": share(clean), **medians}


def _arguments() -> Any:
    parser = assets_parser(__doc__, out="results/attacks")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--smallest", type=int, default=20, help="photographs that smallest changes are sought of")
    parser.add_argument("--batch", type=int, default=10)
    parser.add_argument("--peers", type=Path, help="what attack_peers.py writes")
    return with_assets(parser)


if __name__ == "__main__":
    main()
