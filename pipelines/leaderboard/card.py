"""What a model's card says: all that the report says of it, and how it was measured."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

from pipelines.leaderboard.entries import Entry
from pipelines.report.page import closing_sections
from pipelines.report.parts import ModelArticle, ReportFigure, Section
from pipelines.report.saved_figures import file_stem


def article(entry: Entry) -> ModelArticle:
    """The model's part of its run's report, with the figures that the run drew where they are at hand."""
    found = entry.model.article(1)
    return replace(found, sections=[_with_saved(entry, section) for section in found.sections])


def how_measured(entry: Entry) -> list[Section]:
    """The run's images, cost and environment."""
    images = entry.images
    facts = [
        ("Experiment", str(entry.run["experiment"])),
        ("Images", f"{images.count}, digest {images.contents}"),
        ("Seed", str(images.seed)),
        ("Protocol", str(entry.results["protocol"])),
    ]
    return [Section("How it was measured", facts=facts), *closing_sections(entry.results, [], None)]


def _with_saved(entry: Entry, section: Section) -> Section:
    return replace(section, figures=[_saved(entry, figure) for figure in section.figures])


def _saved(entry: Entry, figure: ReportFigure) -> ReportFigure:
    """The figure as the run drew it: drawing is most of what a page costs."""
    file = _file(entry, figure)
    if file is None:
        return figure
    saved = cache(file.read_bytes)
    return replace(figure, draw=lambda theme: saved())


def _file(entry: Entry, figure: ReportFigure) -> Path | None:
    folder = entry.report
    if folder is None:
        return None
    position = [*entry.results["models"]].index(entry.model.label) + 1
    file = folder / "figures" / f"{file_stem(entry.model.label, position)}-{figure.name}.png"
    return file if file.is_file() else None
