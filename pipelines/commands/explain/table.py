"""What `nullspace explain` prints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_TITLES = {"picture": "picture", "noised": "with noise", "permuted": "permuted"}


def table(row: Mapping[str, Any]) -> str:
    """Predictions before and after, and how alike each map is."""
    explained = row["explained"]
    which = "" if explained["predicted"] else ", which is not the predicted class"
    lines = [f"{row['file']}  explained: {explained['name']}{which}  noise: {row['noise']}"]
    for name, title in _TITLES.items():
        if name not in row:
            continue
        predicted = ", ".join(f"{each['name']} {100 * each['probability']:.1f} %" for each in row[name]["top"])
        lines.append(f"  {title:11} {predicted}")
        lines += [f"  {'':11} {_alike(map_, value)}" for map_, value in row[name]["alike"].items()]
    return "\n".join([*lines, f"  {'page':11} {row['page']}", *(f"  note: {note}" for note in row["notes"])])


def _alike(name: str, value: float) -> str:
    if name == "pixels":
        return f"input × gradient, pixels: {100 * value:.1f} % of the largest 2 % stay"
    return f"{name}: rank correlation {value:.3f}"
