"""One model on the page: which it was, how to load its noise, and what is shown of a stage that was skipped."""

from __future__ import annotations

from typing import Any

import pytest

from pipelines.report.model import Model, ReportedStage, columns_of
from pipelines.report.outcomes import Outcome, Share
from pipelines.report.parts import Cell, ReportFigure, Section, Tile
from pipelines.report.view import NamedOutcome, Result, StageReport
from tests.pipelines.report.results import view


def model(stages: list[ReportedStage] | None = None, **said: Any) -> Model:
    return Model("label", Result(said), stages or [], Result({}))


@pytest.mark.parametrize(
    ("facts", "argument"),
    [
        ({}, "weights='pretrained'"),
        ({"weights": "random", "seed": 7}, "weights='random', seed=7"),
        ({"weights": "/a/it's.safetensors", "seed": 7}, """weights="/a/it's.safetensors\""""),
        ({"weights": "/w.pth", "args": {"img_size": [64, 64]}}, "weights='/w.pth', model_args={'img_size': [64, 64]}"),
        ({"weights": "/w.pth", "ema": False}, "weights='/w.pth', ema=False"),
    ],
)
def test_the_snippet_loads_the_weights_that_were_used(facts: dict[str, Any], argument: str) -> None:
    snippet = model(model={"name": "vit", **facts}, search={"artifact": "/n.safetensors"}).snippet()
    assert f"SplitViT.load('vit', {argument})" in snippet
    compile(snippet, "snippet", "exec")
    assert "from nullspace import NullNoise, SplitViT\n" in snippet


def test_the_page_says_what_was_found_of_the_weights() -> None:
    facts = {"name": "vit", "weights_source": "file:/w.pth (EMA)", "notes": ["10 classes from the file's shapes"]}
    shown = model(model={**facts, "args": {"global_pool": "avg"}}).article(1).sections[-1].facts
    assert ("Weights", "file:/w.pth (EMA)") in shown and ("Argument global_pool", "avg") in shown
    assert ("About them", "10 classes from the file's shapes") in shown


def test_a_model_without_a_noise_has_no_snippet() -> None:
    assert model(model={"name": "vit"}).snippet() == ""


@pytest.mark.parametrize(
    ("reference", "subtitle"),
    [
        ({"clean_accuracy": {"accuracy": 0.978, "ci": [0.969, 0.984], "n": 1797}}, "97.8 % [96.9, 98.4], n = 1,797"),
        ({"clean_accuracy": None}, ""),
    ],
)
def test_the_subtitle_says_how_good_the_model_is(reference: dict[str, Any], subtitle: str) -> None:
    found = model(model={"name": "vit"}, reference=reference).article(1).subtitle
    assert found == (f"vit · clean accuracy {subtitle}" if subtitle else "vit")


OUTCOME = Outcome(9, Share(0.5, 0.4, 0.6))
REPORT = StageReport(
    name="mine",
    title="My stage",
    section=lambda view: Section("My stage", facts=[("found", view.result.text("found"))]),
    tile=lambda view: Tile("Mine", "1", "of 2", "All is well."),
    outcomes=lambda view: [NamedOutcome("my noise", OUTCOME)],
    lines=lambda view: ["all is well"],
    columns={"Mine": lambda view: Cell("1")},
    figures=lambda view: iter([ReportFigure("mine", "Mine", "in words", lambda theme: _drawn.append(1) or b"png")]),
    picture_titles={"marked": "with a mark"},
)
_drawn: list[int] = []


def test_a_stage_is_shown_as_it_says_of_itself() -> None:
    stage = ReportedStage(REPORT, view(found="much"))
    section = stage.section()
    assert section.facts == [("found", "much")] and section.picture_titles == {"marked": "with a mark"}
    assert [figure.name for figure in section.figures] == ["mine"]
    assert stage.tile() == Tile("Mine", "1", "of 2", "All is well.")
    assert (stage.outcomes(), stage.lines(), stage.cell("Mine")) == (
        [NamedOutcome("my noise", OUTCOME)],
        ["all is well"],
        Cell("1"),
    )


def test_a_figure_is_drawn_once_for_page_and_folder() -> None:
    _drawn.clear()
    stage = ReportedStage(REPORT, view())
    theme: Any = "light"
    for figures in (stage.section().figures, stage.figures):
        assert figures[0].draw(theme) == b"png"
    assert _drawn == [1]


def test_of_a_skipped_stage_the_reason_is_shown_and_nothing_else() -> None:
    stage = ReportedStage(REPORT, view(skipped="the kernel is trivial"))
    assert stage.section() == Section("My stage", missing="the kernel is trivial")
    assert stage.tile() == Tile("My stage", "—", "", "The kernel is trivial.")
    assert (stage.outcomes(), stage.lines(), stage.figures) == ([], ["the kernel is trivial"], [])
    assert stage.cell("Mine") == Cell("—")


def test_models_are_compared_by_all_that_any_of_them_has() -> None:
    other = StageReport("other", "Other", section=REPORT.section, columns={"Other": lambda view: Cell("2")})
    both = model([ReportedStage(REPORT, view()), ReportedStage(other, view())])
    one = model([ReportedStage(other, view())])
    assert columns_of([both, one]) == ["Mine", "Other"]
    assert one.cells(["Mine", "Other"]) == [Cell("—"), Cell("2")]


def test_what_was_asked_of_no_model_has_no_column_and_what_was_skipped_has_one() -> None:
    columns = {"Asked": lambda found: Cell(found.result.text("asked") or "—")}
    report = StageReport("asked", "Asked", section=REPORT.section, columns=columns)
    results: list[dict[str, Any]] = [{}, {"asked": "3"}, {"skipped": "no kernel"}]
    silent, asked, skipped = (model([ReportedStage(report, view(**result))]) for result in results)
    assert columns_of([silent]) == [] and columns_of([silent, asked]) == columns_of([silent, skipped]) == ["Asked"]
