"""Figures of one way to change pictures, an entry per picture, gathered batch by batch."""

from __future__ import annotations

import torch
from common import share
from torch import Tensor


class Columns:
    """Columns (n,) of figures by name."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.values: dict[str, list[Tensor]] = {}

    def add(self, name: str, values: Tensor) -> None:
        self.values.setdefault(name, []).append(values.detach().double().cpu())

    def to_lists(self) -> dict[str, list[float]]:
        """All values, to be joined with those of other pictures."""
        return {name: torch.cat(parts).tolist() for name, parts in self.values.items()}

    def take_in(self, lists: dict[str, list[float]]) -> None:
        for name, values in lists.items():
            self.add(name, torch.tensor(values))

    def mean(self, name: str) -> str:
        """With the half width of its 95 % interval."""
        values = torch.cat(self.values[name])
        values = values[torch.isfinite(values)]
        return f"{float(values.mean()):.4f} ± {1.96 * float(values.std()) / len(values) ** 0.5:.2g}"

    def share(self, name: str) -> str:
        return share(torch.cat(self.values[name]))

    def largest(self, name: str) -> str:
        return f"{float(torch.cat(self.values[name]).max()):.2g}"
