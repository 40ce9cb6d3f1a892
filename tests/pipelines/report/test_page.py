"""The page, on results and stage folders of two models: one with a kernel, one without."""

from __future__ import annotations

import base64
import copy
import io
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipelines.report import page as report
from pipelines.report.model import Model
from pipelines.workflow.order import REPORTS, models_of
from tests.pipelines.report.results import BAD_PATH, SEEING, SKIPPED


class Page(HTMLParser):
    """What a reader meets: tags, pictures, headings, visible text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.words: list[str] = []
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.feed(text)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.tags.append(tag)
        if tag in ("img", "source"):
            self.images.append(attributes)
        self.anchors.add(attributes.get("id") or "")
        self.links.append(attributes.get("href") or "")

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.fixture(scope="module")
def page(results: dict[str, Any], models: list[Model], ingest: Path, tmp_path_factory: pytest.TempPathFactory) -> Page:
    tmp_path = tmp_path_factory.mktemp("page")
    config = {"data": {"source": "s3://me:secret@bucket/digits"}, "search": {"trials": 12}}
    out = report.write_report(results, models, tmp_path / "deep" / "report.html", ingests=[ingest], config=config)
    assert out == tmp_path / "deep" / "report.html"
    return Page(out.read_text(encoding="utf-8"))


def test_numbers_on_the_page_are_those_of_the_results(page: Page) -> None:
    for shown in (
        "95.3 %", "[94.2, 96.4]", "41.2 %", "40.5 %", "0.82", "1,797", "96 of 192 directions", "6.3e-6", "17.5 dB",
        "99.97 %", "0.713", "97.8 % [96.9, 98.4]", "2 min 47 s", "1 min 15 s", "version 3", "reused", "≥ 0.11",
    ):  # fmt: skip
        assert shown in page.text, shown


def test_every_learned_number_has_its_controls_beside_it(page: Page) -> None:
    sentence = (
        "Noise 0.82 times the token norm leaves 95.3 % [94.2, 96.4] of predictions unchanged; the same noise permuted "
        "leaves 41.2 % [38.9, 43.5], Gaussian noise of that norm 40.5 % [38.2, 42.8]."
    )
    assert sentence in page.text
    assert "intervals overlap" in page.text  # the second model's Gaussian control does as well as its learned noise


def test_skipped_stages_are_shown_with_their_reason(page: Page) -> None:
    assert page.text.count(SKIPPED) >= 3, "in the sections of three stages"
    assert "sees all 768 directions of a patch (nullity 0)" in page.text


def test_every_picture_has_words_and_lies_inside_the_page(page: Page) -> None:
    for image in page.images:
        source = image.get("src") or image.get("srcset") or ""
        assert source.startswith("data:image/png;base64,")
        Image.open(io.BytesIO(base64.b64decode(source.split(",")[1]))).verify()
        assert "srcset" in image or image.get("alt")
    assert len(page.images) == 2 * (11 + 9) + 12 + 12 + 9 + 6 + 15 + 9 + 9  # figures in two themes, pictures once


def test_strings_of_users_stay_text(page: Page) -> None:
    assert "script" not in page.tags and "b" not in page.tags
    assert BAD_PATH in page.text and SEEING in page.text


def test_warnings_stand_above_all_numbers(page: Page) -> None:
    assert page.text.index("labels look <b>wrong</b>") < page.text.index("96 of 192 directions")
    assert "Warnings" in page.text


def test_nothing_is_loaded_from_elsewhere_and_links_lead_somewhere(page: Page) -> None:
    assert "link" not in page.tags
    assert {link.removeprefix("#") for link in page.links if link} <= page.anchors


def test_credentials_do_not_reach_the_page(page: Page) -> None:
    assert "hunter2" not in page.text and "secret" not in page.text and "bucket/digits" in page.text


def test_first_fifty_unreadable_images_are_shown_with_the_total(page: Page) -> None:
    assert "Unreadable images, 50 of 61" in page.text
    assert page.text.count("truncated file") == 50
    assert "errors-*.parquet" in page.text


def test_sections_are_those_of_the_stages_in_their_order(page: Page) -> None:
    places = [page.text.index(report.title) for report in REPORTS]
    assert len(set(places)) == len(REPORTS)
    assert all(page.text.count(report.title) >= 2 for report in REPORTS), "of both models"


def test_models_stand_beside_each_other_by_what_each_stage_names(page: Page) -> None:
    table = page.text[page.text.index("All models: share of predictions unchanged") :]
    head = table[: table.index(SEEING)]
    for title in (title for each in REPORTS for title in each.columns):
        assert (title in head) != (title == "Mean error, stored files"), f"{title}: asked of none, or else a column"
    row = table[table.index(SEEING) :]
    assert row.startswith(f"{SEEING} 0 of 768 — 0.82 95.3 % [94.2, 96.4] n = 1,797 41.2 %")


def test_the_report_of_a_run_in_which_no_image_could_be_read(tmp_path: Path) -> None:
    nothing: dict[str, Any] = {"models": {"m": {}}}
    out = report.write_report(nothing, models_of(nothing), tmp_path / "report.html")
    text = Page(out.read_text(encoding="utf-8")).text
    assert "timm name m" in text and not any(each.title in text for each in REPORTS), "stages not run are absent"


def test_rendering_changes_nothing_in_the_results(results: dict[str, Any], models: list[Model], tmp_path: Path) -> None:
    before = copy.deepcopy(results)
    report.write_report(results, models, tmp_path / "report.html")
    assert results == before
