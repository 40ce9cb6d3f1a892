"""Rows of `bench_eight_bits.py`: sums over pictures, added up over processes, written as tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from common import environment
from torch import Tensor

from nullspace.metrics.outcomes import largest_probability_change, wilson_interval
from nullspace.model.vit import SplitViT
from nullspace.pixels.eight_bits import EightBits
from nullspace.watermark.certify import token_changes
from nullspace.watermark.luma import luma


class Row:
    """Outcomes of one way to save one change, over all pictures."""

    def __init__(self) -> None:
        self.same = self.n = 0
        self.logit = self.probability = self.worst = self.squares = self.seconds = self.luma = self.colour = 0.0

    def add(
        self, model: SplitViT, eight: EightBits, clean: tuple[Tensor, Tensor], after: Tensor, seconds: float = 0.0
    ) -> None:
        """`clean` are the pictures compared with, and their logits."""
        before, logits = clean[0], (clean[1], model(after))
        moved = token_changes(model, eight.plan.mapping, before, after)
        self.n += len(before)
        self.same += int((logits[0].argmax(1) == logits[1].argmax(1)).sum())
        self.logit = max(self.logit, float((logits[1] - logits[0]).abs().max()))
        self.probability = max(self.probability, float(largest_probability_change(*logits).max()))
        self.worst = max(self.worst, float(moved.max()))
        self.squares += float(moved.square().mean(dim=1).sum())
        self.seconds += seconds

    def see(self, change: Tensor, alpha: Tensor) -> None:
        """How much there is to see where the mark lies."""
        bright = luma(change)
        weight = alpha / alpha.sum()
        self.luma += float((bright.square() * weight).sum())
        self.colour += float(((change - bright[:, None]).square().mean(dim=1) * weight).sum())

    def plus(self, other: dict[str, float]) -> None:
        """Take in the `vars` of another row."""
        for name, value in other.items():
            largest = name in ("logit", "probability", "worst")
            setattr(self, name, max(getattr(self, name), value) if largest else getattr(self, name) + value)

    def to_dict(self) -> dict[str, Any]:
        low, high = wilson_interval(self.same, self.n)
        said = {
            "n": self.n,
            "unchanged": f"{100 * self.same / self.n:.1f} %",
            "95 %": f"[{100 * low:.1f}, {100 * high:.1f}]",
            "largest Δlogit": self.logit,
            "largest Δp": self.probability,
            "moved": (self.squares / self.n) ** 0.5,
            "worst patch": self.worst,
        }
        if self.seconds:
            said["ms/image"] = 1000 * self.seconds / self.n
        if self.luma:
            said |= {"contrast": (self.luma / self.n) ** 0.5, "of colour": (self.colour / self.n) ** 0.5}
        return said


def merged(files: list[Path]) -> dict[str, dict[str, Row]]:
    """Rows by table and name, added up over files that `write` made."""
    rows: dict[str, dict[str, Row]] = {}
    for file in files:
        for table, found in json.loads(file.read_text())["rows"].items():
            for name, sums in found.items():
                rows.setdefault(table, {}).setdefault(name, Row()).plus(sums)
    return rows


def write(out: Path, rows: dict[str, dict[str, Row]]) -> None:
    sums = {table: {name: vars(row) for name, row in found.items()} for table, found in rows.items()}
    out.with_suffix(".json").write_text(json.dumps({"environment": environment(), "rows": sums}, indent=1) + "\n")
    out.with_suffix(".md").write_text(markdown(rows))


def markdown(rows: dict[str, dict[str, Row]]) -> str:
    parts = ["_" + ", ".join(f"{key} {value}" for key, value in environment().items()) + "_"]
    for table, found in rows.items():
        if not found:
            continue
        said = [{"": name, **row.to_dict()} for name, row in sorted(found.items(), reverse="JPEG" in table)]
        columns = list(said[0])
        parts += [f"\n### {table}\n", "| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
        parts += ["| " + " | ".join(shown(row.get(column, "")) for column in columns) + " |" for row in said]
    return "\n".join(parts) + "\n"


def shown(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
