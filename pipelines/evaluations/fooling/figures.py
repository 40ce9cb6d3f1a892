"""Success over ε as a figure."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.ticker import NullLocator, PercentFormatter

from pipelines.report.drawing import LIGHT, Theme, canvas, to_png
from pipelines.report.outcomes import Share

_STYLES = ("-", "--", ":", "-.")


def success_curves(curves: Mapping[str, Mapping[float, Share]], *, theme: Theme = LIGHT) -> bytes:
    """Share of pictures taken for the image over ε (of 255), a curve for each depth; controls are grey."""
    figure, axes = canvas(theme)
    own = [name for name in curves if not name.endswith("permuted")]
    for name, points in curves.items():
        control = name not in own
        style = _STYLES[own.index(name.removesuffix(", permuted")) % len(_STYLES)]
        values = [share.value for share in points.values()]
        ends = [(share.value - (share.low or 0), (share.high or 1) - share.value) for share in points.values()]
        axes.errorbar(
            list(points), values, yerr=list(zip(*ends, strict=True)), label=name, linestyle=style, marker="o",
            markersize=4, capsize=3, color=theme.control if control else theme.accent,
        )  # fmt: skip
    ticks = sorted({epsilon for points in curves.values() for epsilon in points})
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [f"{epsilon:g}" for epsilon in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set(ylim=(-0.03, 1.03), xlabel="ε of 255", ylabel="taken for the image")
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.legend(frameon=False, fontsize=9, labelcolor=theme.ink)
    return to_png(figure, theme)
