"""Report on the search: the noise it found, its guarantee, and its trials."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from pipelines import wording
from pipelines.redact import redact
from pipelines.report.outcomes import Mean
from pipelines.report.parts import Cell, ReportFigure, Section, Table
from pipelines.report.view import Result, StageReport, StageView
from pipelines.stages.search.figures import search_curves, trials_scatter

TITLE = "Search for the noise"
TRIAL_COLUMNS = {
    "relative_norm": "Relative norm",
    "learning_rate": "Learning rate",
    "steps": "Steps",
    "step": "Steps done",
    "radius": "Radius",
    "agreement": "Unchanged",
    "seconds": "Seconds",
    "status": "Status",
}


def section(view: StageView) -> Section:
    return Section(TITLE, facts=list(facts(view.result)), tables=list(trials_table(view)))


def facts(noise: Result) -> Iterator[tuple[str, str]]:
    """Size of the noise, how it is spread, its guarantee, and where it is kept."""
    yield "Relative norm", f"{noise.number('relative_norm')} times the mean token norm, exact shift part removed"
    yield "Norm", f"{noise.number('norm')} in all; mean token norm {noise.number('token_norm')}"
    yield "Spread over tokens", f"{noise.number('spread')} (1 = evenly)"
    if noise.below("guarantee"):
        yield "Guarantee", guarantee(noise.below("guarantee"))
    if noise.text("objective"):
        yield "Objective", noise.text("objective")
    ranges = [f"{_title(name)} {low:g} to {high:g}" for name, (low, high) in _pairs(noise.below("space"))]
    if ranges:
        yield "Searched", "; ".join(ranges)
    if noise.below("importance"):
        yield "What decided the radius", _importance(noise.below("importance"))
    if noise.text("registered_model"):
        yield "Registered as", f"{noise.text('registered_model')}, version {noise.text('version')}"
    if noise.text("artifact"):
        yield "File", redact(noise.text("artifact"))


def _pairs(space: Result) -> Iterator[tuple[str, Any]]:
    yield from space.items()


def _importance(found: Result) -> str:
    shares = sorted(((name, found.value(name) or 0.0) for name, _ in found.items()), key=lambda item: -item[1])
    text = ", ".join(f"{_title(name)} {wording.format_percent(share)}" for name, share in shares)
    return f"{text} of its variance over the trials (fANOVA)"


def _title(name: str) -> str:
    return TRIAL_COLUMNS.get(name, name).lower()


def guarantee(found: Result) -> str:
    """The guarantee of the noise on new images, in one line."""
    return (
        f"mean ‖Δprobabilities‖² ≤ {found.number('bound')} on new images of the same kind, with confidence "
        f"{100 * (found.value('confidence') or 0):g} % (ε = {found.number('epsilon')}, from {found.number('n')} "
        "calibration images used for nothing else)"
    )


def sentence(noise: Result) -> str:
    """How large the noise is, and its guarantee."""
    text = f"Noise {noise.number('relative_norm')} times the token norm"
    return f"{text}. Guaranteed: {guarantee(noise.below('guarantee'))}." if noise.below("guarantee") else f"{text}."


def lines(view: StageView) -> list[str]:
    """'2.4 times the token norm', and within which epsilon that is guaranteed to be."""
    noise, found = view.result, view.result.below("guarantee")
    size = f"{noise.number('relative_norm')} times the token norm"
    if not found:
        return [size]
    confidence = f"{100 * (found.value('confidence') or 0):g} %"
    return [f"{size}; mean |dp|^2 <= {found.number('bound')} on new images, with confidence {confidence}"]


def trials_table(view: StageView, limit: int = 10) -> Iterator[Table]:
    """The best trials of the search: the ablation over norm, learning rate and steps."""
    trials = view.table("trials.parquet")
    if trials is None:
        return
    shown = [name for name in TRIAL_COLUMNS if name in trials]
    best = trials.sort_values("radius", ascending=False).head(limit)
    rows = [
        [Cell(str(row["trial_id"])), *(Cell(trial_value(name, row)) for name in shown)]
        for row in best.to_dict("records")
    ]
    seconds = sum(trials["seconds"].dropna().tolist()) if "seconds" in trials else None
    cost = "" if seconds is None else f", {wording.format_duration(seconds)} of learning in all"
    yield Table(
        f"Best {len(best)} of {len(trials)} trials{cost}. Radius: largest relative norm with ‖Δprobabilities‖² ≤ ε, "
        "on validation images",
        ["Trial", *(TRIAL_COLUMNS[name] for name in shown)],
        rows,
    )


def trial_value(name: str, row: Mapping[Any, Any]) -> str:
    """One value of a trial; a radius the search ended at is a lower bound."""
    value = row[name]
    if isinstance(value, str):
        return value.lower()
    if name == "radius" and row.get("capped") == 1:
        return f"≥ {wording.format_number(value)}"
    return wording.format_percent(value) if name == "agreement" else wording.format_number(value)


def figures(view: StageView) -> Iterator[ReportFigure]:
    """The trials, and the course of the search."""
    best = view.record("search.json").get("best_trial")
    best = None if best is None else str(best)
    trials, curves = view.table("trials.parquet"), view.table("curves.parquet")
    if trials is not None:
        yield ReportFigure(
            "trials",
            "Trials of the search",
            f"Radius of {len(trials)} trials over the norm they held; colour is the learning rate, the best is ringed.",
            lambda theme: trials_scatter(trials, best=best, theme=theme),
        )
    if curves is not None:
        yield from (_course(curves, column, best) for column in ("loss", "radius"))


def _course(curves: pd.DataFrame, column: str, best: str | None) -> ReportFigure:
    return ReportFigure(
        f"search-{column}",
        f"Course of the search: {column}",
        f"{column.capitalize()} over the steps of {curves['trial_id'].nunique()} trials; the best trial is in colour.",
        lambda theme: search_curves(curves, column=column, best=best, theme=theme),
    )


def _norm(view: StageView) -> Cell:
    value = view.result.value("relative_norm")
    return Cell(view.result.number("relative_norm"), figure=None if value is None else Mean(value))


REPORT = StageReport(
    name="search", title=TITLE, section=section, lines=lines, columns={"Relative norm": _norm}, figures=figures
)
