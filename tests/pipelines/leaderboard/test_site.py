"""The pages as files, their data, and what a reader meets in a browser."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from nullspace.errors import NullspaceError
from pipelines.leaderboard.boards import boards_of
from pipelines.leaderboard.entries import read_entries
from pipelines.leaderboard.site import write_site
from pipelines.report.saved_figures import file_stem
from tests.mlflow_server.browser import Browser, browser
from tests.pipelines.leaderboard.conftest import CONTENTS
from tests.pipelines.report.results import BLIND, SEEING

MakeRun = Callable[..., Path]


@pytest.fixture
def site(run: MakeRun, tmp_path: Path) -> Path:
    """The folder of a site of four models."""

    def weaker(results: dict[str, Any]) -> None:
        learned = results["models"][BLIND]["learned_noise"]["conditions"]["learned"]
        learned |= {"agreement": 0.5, "agreement_ci": [0.4, 0.6]}

    boards = boards_of(read_entries([run("one"), run("two", weaker)]))
    assert (
        write_site(boards, tmp_path / "site", title="Mine <b>", dataset="me/imagenet") == tmp_path / "site/index.html"
    )
    return tmp_path / "site"


@pytest.fixture
def window(tmp_path: Path) -> Iterator[Browser]:
    with browser(tmp_path) as opened:
        yield opened


def test_data_for_programs_holds_every_figure(site: Path) -> None:
    content = json.loads((site / "leaderboard.json").read_text())
    (board,) = content["boards"]
    assert content["protocol"] == 1 and board["images"] == {"count": 1797, "contents": CONTENTS, "seed": 0}
    models = {model["name"]: model for model in board["models"]}
    figure = models[f"{BLIND} (two)"]["figures"]["Learned noise"]
    assert figure == {"value": 0.5, "low": 0.4, "high": 0.6, "n": 1797}
    assert models[f"{SEEING} (one)"]["model"]["weights_sha256"] == "9f2c" * 16
    assert "Kernel noise" not in models[f"{SEEING} (one)"]["figures"], "skipped there"


def test_results_in_the_form_of_hugging_face(site: Path) -> None:
    files = sorted((site / ".eval_results").glob("*.yaml"))
    assert len(files) == 4
    entries = {each["dataset"]["task_id"]: each for each in yaml.safe_load(files[0].read_text())}
    learned = entries["learned_noise"]
    assert learned["dataset"]["id"] == "me/imagenet" and learned["value"] == 95.3
    assert "95 % interval [94.2, 96.4]; n = 1797; images c0ffeec0ffee, seed 0" in learned["notes"]


def test_a_card_has_all_sections_with_pictures_and_how_it_was_measured(site: Path) -> None:
    cards = sorted((site / "models").glob("*.html"))
    assert len(cards) == 4
    text = next(card for card in cards if card.name.startswith(BLIND)).read_text()
    for shown in ("Visible watermark", "Fooling the network", "How it was measured", CONTENTS, "9f2c" * 16):
        assert shown in text, shown
    assert "hunter2" not in text and "<b>base" not in "".join(card.read_text() for card in cards)
    assert len([*(site / "models").rglob("visible_watermark-00_marked.png")]) == 2, (
        "a picture for each run that has one"
    )


def test_in_a_browser_rows_are_sorted_and_filtered_and_a_card_opens(site: Path, window: Browser) -> None:
    window.open((site / "index.html").as_uri())
    window.shows("Mine <b>", "4 models", f"{BLIND} (two)")
    names = "[...document.querySelectorAll('.board tbody tr:not([hidden]) th')].map((cell) => cell.textContent)"
    head = "[...document.querySelectorAll('.board thead button')].find((each) => each.textContent === 'Learned noise')"
    window.driver.execute_script(f"{head}.click(); {head}.click()")
    assert window.run(names)[0] == f"{BLIND} (two)", "the least first"
    window.driver.execute_script(f"{head}.click()")
    assert window.run(names)[-1] == f"{BLIND} (two)"
    kernel = head.replace("Learned noise", "Kernel noise")
    for _ in range(2):
        window.driver.execute_script(f"{kernel}.click()")
        assert {name.partition(" (")[0] for name in window.run(names)[2:]} == {SEEING}, (
            "not measured: below, either way"
        )
    window.driver.find_element("id", "filter").send_keys("(ONE")
    assert sorted(window.run(names)) == [f"{BLIND} (one)", f"{SEEING} (one)"] and "2 of 4" in window.text
    window.driver.find_element("link text", f"{BLIND} (one)").click()
    window.shows("How it was measured", "Visible watermark")
    assert window.run("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
    assert window.complaints() == []


def test_without_scripts_and_on_a_phone_the_table_is_readable(site: Path, window: Browser) -> None:
    window.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    window.width(375)
    window.driver.get((site / "index.html").as_uri())
    window.shows("Learned noise", "95.3 %", "[94.2, 96.4]")
    assert "Show models that contain" not in window.text, "what needs a script is not offered"
    assert window.run("document.documentElement.scrollWidth") <= 375, "the table scrolls, the page does not"


def test_a_site_is_written_without_torch_which_takes_longer_to_load_than_all_its_pages(
    run: MakeRun, tmp_path: Path
) -> None:
    program = (
        "import sys; from pathlib import Path; from pipelines.leaderboard import boards, entries, site; "
        "site.write_site(boards.boards_of(entries.read_entries([Path(sys.argv[1])])), Path(sys.argv[2]), title='x'); "
        "print([name for name in ('torch', 'timm', 'ray', 'mlflow') if name in sys.modules])"
    )
    arguments = [sys.executable, "-c", program, str(run("one")), str(tmp_path / "out")]
    assert subprocess.run(arguments, capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_a_saved_figure_is_written_once(run: MakeRun, tmp_path: Path) -> None:
    workdir = run("one")
    figures = workdir / "stages" / "report-0b" / "figures"
    figures.mkdir()
    (figures / f"{file_stem(BLIND, 1)}-corruption-agreement.png").write_bytes(b"as the run drew it")
    write_site(boards_of(read_entries([workdir])), tmp_path / "site", title="x")
    (card,) = [file for file in (tmp_path / "site" / "models").glob("*.html") if file.stem == file_stem(BLIND, 1)]
    (written,) = (tmp_path / "site" / "models" / card.stem).glob("corruption-agreement-*.png")
    assert written.read_bytes() == b"as the run drew it"
    assert card.read_text().count(f"{card.stem}/{written.name}") == 2, "on light and on dark pages"


def test_a_file_in_the_place_of_the_site_is_one_line(run: MakeRun, tmp_path: Path) -> None:
    (tmp_path / "site").write_text("mine")
    with pytest.raises(NullspaceError, match="cannot write the site to .*; give another folder with --output"):
        write_site(boards_of(read_entries([run("one")])), tmp_path / "site", title="")
    assert (tmp_path / "site").read_text() == "mine"
