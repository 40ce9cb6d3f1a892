"""Draws docs/noise.png from benchmarks/results/noise.json: disagreement over image-steps, ours and the published one.

python docs/noise_picture.py
"""

from __future__ import annotations

import json
from pathlib import Path

from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parents[1]
STYLES = {
    "ours": ("#0b6e4f", "-", "rising rank, from channel start"),
    "published": ("#b23a48", "--", "published (AdamW)"),
}


def main() -> None:
    """One panel per relative norm, with 95 % bands and Gaussian noise as the level of chance."""
    rows = json.loads((ROOT / "benchmarks/results/noise.json").read_text(encoding="utf-8"))["rows"]
    norms = sorted({row["norm"] for row in rows})
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    for axes, norm in zip(figure.subplots(1, len(norms)), norms, strict=True):
        of = [row for row in rows if row["norm"] == norm]
        for method, (colour, line, label) in STYLES.items():
            curve = sorted((row for row in of if method in row["method"]), key=lambda row: row["image_steps"])
            steps = [row["image_steps"] for row in curve]
            axes.fill_between(
                steps, [row["low"] for row in curve], [row["high"] for row in curve], color=colour, alpha=0.15, lw=0
            )
            axes.plot(steps, [row["disagreement"] for row in curve], line, color=colour, marker="o", ms=3, label=label)
        chance = next(row["disagreement"] for row in of if row["method"] == "Gaussian")
        axes.axhline(chance, color="#777", lw=1, ls=":", label="Gaussian noise of this norm")
        axes.set(title=f"relative norm {norm:g} per token", xlabel="image-steps", xscale="log", ylim=(0, None))
        axes.grid(alpha=0.25)
    figure.axes[0].set_ylabel("disagreement, 300 held-out images")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, loc="outside lower center", ncols=3)
    figure.savefig(ROOT / "docs/noise.png", dpi=110)


if __name__ == "__main__":
    main()
