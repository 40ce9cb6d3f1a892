"""The page of `nullspace explain` as a PNG: a row for each noise, a column for each map."""

from __future__ import annotations

from matplotlib.figure import Figure

from pipelines.commands.explain.explainer import PIXELS, Explained, Panel
from pipelines.evaluations.attribution.ways import WORDS
from pipelines.report.drawing import LIGHT, to_png

_SIDE = 2.6  # inches of a picture


def page(name: str, found: Explained) -> bytes:
    """The page of the picture called `name`."""
    maps = list(found.panels[0].maps)
    columns, rows = 1 + len(maps), len(found.panels)
    figure = Figure(figsize=(_SIDE * columns, (_SIDE + 0.75) * rows + 0.6), layout="constrained")
    figure.set_facecolor(LIGHT.surface)
    explained = found.explained
    figure.suptitle(
        f"{name}  ·  {found.model}  ·  explained: {explained['name']}", color=LIGHT.ink, fontsize=11, x=0.01, ha="left"
    )
    cells = figure.subplots(rows, columns, squeeze=False)
    for row, panel in zip(cells, found.panels, strict=True):
        for cell, picture in zip(row, (panel.image, *(panel.maps[each] for each in maps)), strict=True):
            cell.imshow(picture.permute(1, 2, 0).clamp(0, 1).numpy(), interpolation="nearest")
            cell.set_xticks([])
            cell.set_yticks([])
            cell.spines[:].set_visible(False)
        row[0].set_title(panel.title, color=LIGHT.ink, fontsize=10, loc="left", weight="bold")
        row[0].set_xlabel(_predictions(panel), color=LIGHT.ink, fontsize=8, loc="left")
        for cell, each in zip(row[1:], maps, strict=True):
            cell.set_title(_title(each), color=LIGHT.ink, fontsize=10, loc="left")
            cell.set_xlabel(_alike(panel, each), color=LIGHT.muted, fontsize=9, loc="left")
    return to_png(figure, LIGHT)


def _title(name: str) -> str:
    return "input × gradient, pixels" if name == PIXELS else WORDS[name]


def _predictions(panel: Panel) -> str:
    return "\n".join(f"{each['name'][:30]} {100 * each['probability']:.1f} %" for each in panel.top)


def _alike(panel: Panel, name: str) -> str:
    if name not in panel.alike:
        return ""
    value = panel.alike[name]
    return f"{100 * value:.0f} % of its largest stay" if name == PIXELS else f"rank correlation {value:.3f}"
