"""Which figures a model gets, with the words for those who can't see them; saved to a folder for MLflow."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import Any

import pandas as pd

from pipelines.report import drawing
from pipelines.report.inputs import StageFolders, examples
from pipelines.wording import KERNEL_CONDITIONS, NOISE_CONDITIONS, agreement, number, why_missing


@dataclass(frozen=True)
class ReportFigure:
    """One figure: `draw` makes its PNG bytes for a theme; `alt` says in words what it shows."""

    name: str
    title: str
    alt: str
    draw: Callable[[drawing.Theme], bytes]


Figures = Callable[[str, Mapping[str, Any], StageFolders], Iterator[ReportFigure]]


def _drawn_once(figures_of: Figures) -> Figures:
    """Once for a theme, though page and folder of figures both show it: drawing is most of what a report costs."""

    @wraps(figures_of)
    def found(label: str, section: Mapping[str, Any], stages: StageFolders) -> Iterator[ReportFigure]:
        for figure in figures_of(label, section, stages):
            kept = stages.drawn.setdefault((label, figure.name, figure.alt), {})
            yield replace(figure, draw=_once(figure.draw, kept))

    return found


def _once(draw: Callable[[drawing.Theme], bytes], kept: dict[Any, bytes]) -> Callable[[drawing.Theme], bytes]:
    def drawn(theme: drawing.Theme) -> bytes:
        if theme not in kept:
            kept[theme] = draw(theme)
        return kept[theme]

    return drawn


@_drawn_once
def kernel_figures(label: str, kernel: Mapping[str, Any], stages: StageFolders) -> Iterator[ReportFigure]:
    """Spectrum of the patch embedding; agreement under kernel noise and its controls."""
    table = stages.table(label, "kernel", "spectrum.parquet")
    if table is not None and kernel.get("tolerance"):
        sigma, tolerance, size = table["sigma"].to_numpy(dtype=float), kernel["tolerance"], kernel.get("patch_dim")
        alt = (
            f"Singular values of the patch embedding, log scale, from {number(kernel.get('sigma_max'))} down to "
            f"{number(kernel.get('sigma_min'))}; tolerance {number(tolerance)}; "
            f"{number(kernel.get('nullity'))} of {number(size)} directions form the kernel."
        )
        yield ReportFigure(
            "spectrum",
            "What the patch embedding sees",
            alt,
            lambda theme: drawing.spectrum(sigma, tolerance, patch_dim=size, theme=theme),
        )
    yield from _bars("kernel-agreement", "Noise in the kernel", kernel.get("conditions"), KERNEL_CONDITIONS)


@_drawn_once
def noise_figures(label: str, noise: Mapping[str, Any], stages: StageFolders) -> Iterator[ReportFigure]:
    """Agreement under learned noise and its controls; the search that found it."""
    yield from _bars("noise-agreement", "Noise on the tokens", noise.get("conditions"), NOISE_CONDITIONS)
    best = best_trial(label, stages)
    trials = stages.table(label, "search", "trials.parquet")
    if trials is not None:
        yield ReportFigure(
            "trials",
            "Trials of the search",
            f"Radius of {len(trials)} trials over the norm they held; colour is the learning rate, the best is ringed.",
            lambda theme: drawing.trials_scatter(trials, best=best, theme=theme),
        )
    curves = stages.table(label, "search", "curves.parquet")
    if curves is not None:
        yield from (_course(curves, column, best) for column in ("loss", "radius"))


def _course(curves: pd.DataFrame, column: str, best: str | None) -> ReportFigure:
    return ReportFigure(
        f"search-{column}",
        f"Course of the search: {column}",
        f"{column.capitalize()} over the steps of {curves['trial_id'].nunique()} trials; the best trial is in colour.",
        lambda theme: drawing.search_curves(curves, column=column, best=best, theme=theme),
    )


def _bars(name: str, title: str, conditions: Any, labels: Mapping[str, str]) -> Iterator[ReportFigure]:
    if why_missing(conditions):
        return
    said = "; ".join(f"{labels.get(key, key)} {agreement(value)}" for key, value in conditions.items())
    yield ReportFigure(
        name,
        title,
        f"Share of predictions unchanged with 95 % intervals: {said}.",
        lambda theme: drawing.agreement_bars(conditions, labels=labels, theme=theme),
    )


def best_trial(label: str, stages: StageFolders) -> str | None:
    """Id of the trial whose noise was kept, as the search recorded it."""
    best = stages.record(label, "search", "search.json").get("best_trial")
    return None if best is None else str(best)


def save_figures(results: Mapping[str, Any], stages: StageFolders, folder: Path) -> list[Path]:
    """Write every figure and the example pictures as PNG files `<model>-<figure>.png`; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for number_, (label, model) in enumerate(results.get("models", {}).items(), 1):
        prefix = file_stem(label, number_)
        for figure in model_figures(label, model, stages):
            written.append(_write(folder / f"{prefix}-{figure.name}.png", figure.draw(drawing.LIGHT)))
        for stage in ("evaluate", "watermark"):
            pictures = examples(stages.of(label, stage))
            if pictures.rows:
                grid = drawing.image_grid(pictures.rows, pictures.columns)
                written.append(_write(folder / f"{prefix}-{stage}-examples.png", grid))
    return written


def model_figures(label: str, model: Mapping[str, Any], stages: StageFolders) -> Iterator[ReportFigure]:
    """All figures of one model's results."""
    if not why_missing(model.get("kernel")):
        yield from kernel_figures(label, model["kernel"], stages)
    if not why_missing(model.get("noise")):
        yield from noise_figures(label, model["noise"], stages)


def file_stem(label: str, position: int) -> str:
    """A model's label as part of a file name; its position keeps labels apart that differ in odd characters only."""
    clean = re.sub(r"[^A-Za-z0-9._-]+", "_", label).strip("._")
    return clean if clean == label else f"{clean or 'model'}-{position}"


def _write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path
