"""The pages people look at, in a real browser: MLflow's on two runs, and the report by itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from pipelines.tracking.connection.addresses import MODE
from pipelines.tracking.connection.views import VIEW
from tests.mlflow_server.browser import Browser, browser
from tests.mlflow_server.conftest import USER, Tracked, TwoRuns, all_runs
from tests.pipelines.driver import children_of, stage_runs

WIDTH = 1600  # pixels

pytestmark = [pytest.mark.slow, pytest.mark.ray]

TROUBLE = ("went wrong", "not found", "Not Found", "rror loading", "ailed to", "nternal server", "No permission")


class Pages:
    """MLflow's pages in one browser, by their names."""

    def __init__(self, window: Browser, server: str) -> None:
        self.window, self.server = window, server

    def open(self, place: str, *texts: str) -> str:
        """A page by its address, once it shows these texts; an error on it fails the test."""
        self.window.open(f"{self.server}/#/{place}{'&' if '?' in place else '?'}{MODE}")
        text = self.window.shows(*texts)
        self.check(text)
        return text

    def check(self, text: str) -> None:
        assert [word for word in TROUBLE if word in text] == [], text
        complaints = [line for line in self.window.complaints() if "ResizeObserver" not in line]
        assert complaints == []


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("pictures")) as window:
        yield window


@pytest.fixture
def pages(window: Browser, tracked: Tracked, two_runs: TwoRuns) -> Pages:
    window.log_in(USER, tracked.password)
    window.width(WIDTH)
    return Pages(window, tracked.server.url)


@pytest.fixture
def runs(client: MlflowClient, two_runs: TwoRuns) -> list[Run]:
    return all_runs(client)


@pytest.fixture
def parent(client: MlflowClient, two_runs: TwoRuns) -> Run:
    """The run of the undisturbed pipeline."""
    return client.get_run(two_runs.undisturbed.results["run"]["run_id"])


@pytest.fixture
def stages(runs: list[Run], parent: Run) -> dict[str, Run]:
    return stage_runs(runs, parent.info.run_id)


def address(run: Run, tab: str = "") -> str:
    return f"experiments/{run.info.experiment_id}/runs/{run.info.run_id}{tab}"


def test_the_experiment_is_listed(pages: Pages) -> None:
    listed = ("Experiments", "demo", "Nullspace of Vision Transformers")
    text = pages.open("experiments", *listed)
    assert [words for words in listed if words not in text] == []
    pages.window.picture("experiments")


def test_runs_are_listed_and_open_to_stages_and_trials(pages: Pages, runs: list[Run], stages: dict[str, Run]) -> None:
    names = [run.info.run_name or "" for run in children_of(runs, None)]
    search = stages["search"]
    place = f"experiments/{search.info.experiment_id}/runs"
    text = pages.open(place, *names, f"{len(runs)} matching runs", "nullspace", "demo-digits", "v1")
    assert "search digits" not in text, "children are folded away"
    for run_id, then in (
        (search.data.tags["mlflow.parentRunId"], [run.info.run_name or "" for run in stages.values()]),
        (search.info.run_id, [run.info.run_name or "" for run in children_of(runs, search.info.run_id)]),
    ):
        row = f'[row-id="{run_id}"] [col-id*="Run Name"] button'
        pages.window.driver.find_element("css selector", row).click()
        pages.check(pages.window.shows(*then))
    pages.window.picture("runs")


def test_models_are_compared_in_a_view_of_their_own(pages: Pages, parent: Run) -> None:
    place = f"experiments/{parent.info.experiment_id}/runs?viewStateShareKey={VIEW}"
    pages.window.width(2800)  # what does not fit into the window is not in the page
    figures = ("clean_accuracy", "kernel_noise.exact.agreement", "payload.jpeg_75.word_accuracy")
    text = pages.open(place, "Models compared", "2 matching runs", *figures, "digits held_out (")
    assert [figure for figure in figures if figure not in text] == []
    pages.window.picture("models")
    pages.window.width(WIDTH)


def test_the_page_of_a_run_says_what_came_out(pages: Pages, parent: Run) -> None:
    text = pages.open(address(parent), parent.info.run_name or "", "kernel noise", "Metrics (", "Parameters (")
    for words in (
        "Finished",
        "search digits",
        "visible_watermark digits",
        "payload digits",
        "demo-digits",
        "673 of 768",
        "PSNR",
        "max logit change",
    ):
        assert words in text
    pages.window.picture("run")


def test_the_report_opens_among_the_artifacts(pages: Pages, parent: Run) -> None:
    text = pages.open(address(parent, "/artifacts/report.html"), "Exact kernel", "Learned noise", "config.yaml")
    assert "results.json" in text and "environment.json" in text
    pages.window.picture("artifacts")


def test_a_figure_is_drawn(pages: Pages, client: MlflowClient, stages: dict[str, Run]) -> None:
    report = stages["report"]
    figure = next(
        file.path for file in client.list_artifacts(report.info.run_id, "figures") if file.path.endswith("png")
    )
    pages.open(address(report, f"/artifacts/{figure}"), Path(figure).name)
    images = "[...document.querySelectorAll('img')].filter(i => i.src.startsWith('blob:') && i.offsetWidth > 100)"
    pages.window.until(f"{images}.some(i => i.naturalWidth > 300)", "the figure is drawn")
    assert pages.window.run(f"Math.max(...{images}.map(i => i.naturalWidth))") > 300
    pages.window.picture("figure")


def test_trials_are_compared_in_a_chart(pages: Pages, runs: list[Run], stages: dict[str, Run]) -> None:
    trials = children_of(runs, stages["search"].info.run_id)
    chosen, experiment = json.dumps([run.info.run_id for run in trials]), json.dumps([trials[0].info.experiment_id])
    names = [run.info.run_name or "" for run in trials]
    place = f"compare-runs?runs={quote(chosen)}&experiments={quote(experiment)}"
    text = pages.open(place, "Comparing 2 Runs", "Parallel Coordinates Plot", *names)
    for words in ("relative_norm", "learning_rate", "steps", "radius", "agreement"):
        assert words in text
    pages.window.until("document.querySelectorAll('.js-plotly-plot svg').length", "the chart is drawn")
    pages.window.picture("compare")


def test_the_noise_is_in_the_registry_as_champion(pages: Pages, parent: Run) -> None:
    pages.open("models", "demo-digits")
    pages.open("models/demo-digits", "Version 1", "champion", "Null noise of a Vision Transformer")
    pages.window.picture("model")
    text = pages.open("models/demo-digits/versions/1", "times the token norm leaves", parent.info.run_name or "")
    for words in ("champion", "nullspace.noise_sha256", "nullspace_digits_vit"):
        assert words in text
    pages.window.picture("version")


@pytest.mark.parametrize("width", [1280, 420])
def test_the_report_is_whole_at_every_width(window: Browser, two_runs: TwoRuns, width: int) -> None:
    window.width(width)
    window.open((two_runs.undisturbed.workdir / "report.html").as_uri())
    text = window.shows("Exact kernel", "Learned noise", "Visible watermark")
    assert "NaN" not in text and "undefined" not in text
    assert window.complaints() == []
    drawn = window.run(
        "[...document.images].map(i => [i.complete, i.naturalWidth > 0, i.getBoundingClientRect().width])"
    )
    figures = window.run("document.querySelectorAll('svg, img').length")
    assert figures >= 3 and all(complete and real and 0 < shown <= width for complete, real, shown in drawn), drawn
    assert window.run("document.documentElement.scrollWidth") <= width
    window.picture(f"report-{width}")
