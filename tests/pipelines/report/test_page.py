"""The report and the terminal table, on stage folders of two models: one with a kernel, one without."""

from __future__ import annotations

import base64
import copy
import io
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from rich.console import Console

from pipelines import wording
from pipelines.report import drawing, terminal
from pipelines.report import page as report
from pipelines.report.inputs import LARGEST_SIDE, examples, thumbnail, unreadable
from pipelines.workflow.model_part import load_snippet, model_section

BLIND, SEEING = "digits_vit", "vit_<b>base</b>_patch16"  # the second label tries to be HTML
BAD_PATH = "/data/<script>alert(1)</script>/broken.png"


def outcome(agreement: float, half: float, logits: float, **more: Any) -> dict[str, Any]:
    """A condition as results.json holds it."""
    ends = {f"{name}_ci": [0.8 * value, 1.2 * value] for name, value in (("mse_logits", logits),)}
    return {
        "agreement": agreement, "agreement_ci": [max(0.0, agreement - half), min(1.0, agreement + half)], "n": 1797,
        "mse_features": 3 * logits, "mse_features_ci": [2.7 * logits, 3.3 * logits], "mse_logits": logits, **ends,
        "mse_probabilities": logits / 50, "mse_probabilities_ci": [logits / 60, logits / 40],
        "max_abs_logit_change": 3 * logits, "confidence_change": -logits / 90, "confidence_change_ci": None, **more,
    }  # fmt: skip


def model_results(*, trivial: bool) -> dict[str, Any]:
    """One model's part of results.json."""
    shift = {"invariant": True, "relative_shift": 10.0, "max_abs_logit_change": 8.1e-5,
             "control_max_abs_logit_change": 6.4}  # fmt: skip
    reason = "the kernel is trivial: the patch embedding sees every direction"
    rank = 768 if trivial else 96
    patch_dim = 768 if trivial else 192
    conditions = {
        "exact": outcome(1.0, 0.002, 2.1e-6), "in_box": outcome(1.0, 0.002, 1.4e-6),
        "permuted": outcome(0.214, 0.019, 18.3), "gaussian": outcome(0.209, 0.019, 19.1),
    }  # fmt: skip
    return {
        "model": {
            "name": "vit_base_patch16_224" if trivial else "digits_vit", "weights_source": "pretrained:tag",
            "weights_sha256": "9f2c" * 16, "preprocessing": {"input_size": [32, 32], "interpolation": "bicubic"},
        },
        "clean_accuracy": {"accuracy": 0.978, "ci": [0.969, 0.984], "n": 1797},
        "kernel": {
            "patch_dim": patch_dim, "embed_dim": rank, "rank": rank, "nullity": patch_dim - rank, "rtol": 4.3e-14,
            "tolerance": 1.2e-13, "gap": None, "sigma_max": 2.781, "sigma_min": 0.00713, "shift": shift,
            "conditions": {"skipped": reason} if trivial else conditions,
        },
        "noise": {
            "norm": 118.0, "relative_norm": 0.82, "spread": 0.97, "token_norm": 36.1, "epsilon": 0.05,
            "objective": "largest norm inside the ε-region", "artifact": "/runs/demo/noise.safetensors",
            "registered_model": "nullspace-demo-digits_vit", "version": 3,
            "conditions": {
                "learned": outcome(0.953, 0.011, 1.93), "permuted": outcome(0.412, 0.023, 11.8),
                "gaussian": outcome(0.405 if not trivial else 0.95, 0.023, 12.2),
            },
        },
        "watermark": {"skipped": reason} if trivial else {
            "psnr": 17.46, "psnr_ci": [17.2, 17.7], "ssim": 0.713, "ssim_ci": [0.706, 0.72], "texture_contrast": 0.62,
            "texture_contrast_ci": [0.6, 0.64], "texture_contrast_half": 0.41, "texture_contrast_half_ci": [0.38, 0.44],
            "clean_texture_contrast": -0.08, "clean_texture_contrast_ci": [-0.1, -0.06],
            **outcome(0.9997, 0.0005, 0.011),
        },
    }  # fmt: skip


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    """A whole results.json."""
    stages = [("ingest", None, 12.1, False), ("search", BLIND, 74.9, False), ("evaluate", BLIND, 20.2, True)]
    return {
        "warnings": [f"{BLIND}: labels look <b>wrong</b>"],
        "models": {BLIND: model_results(trivial=False), SEEING: model_results(trivial=True)},
        "data": {"images": 1797, "errors": 61, "sources": ["s3://me:secret@bucket/digits"]},
        "run": {
            "experiment": "demo", "run_id": "0b5c9d", "seconds": 167.2, "config_fingerprint": "5e1f00d2a9c3",
            "tracking_uri": "http://user:hunter2@mlflow:5000",
            "stages": [{"name": n, "branch": b, "seconds": s, "reused": r} for n, b, s, r in stages],
        },
        "environment": {"git": {"commit": "c0ffee", "dirty": False}, "versions": {"torch": "2.15.0"}},
    }  # fmt: skip


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> report.StageFolders:
    """Stage folders as the pipeline leaves them; the model without kernel has no watermark folder."""
    tmp_path = tmp_path_factory.mktemp("stages")
    ingest = tmp_path / "ingest-0"
    ingest.mkdir()
    for part, count in ((0, 40), (1, 21)):
        rows = [{"id": f"{part}-{i}", "path": BAD_PATH, "reason": "truncated file"} for i in range(count)]
        pd.DataFrame(rows).to_parquet(ingest / f"errors-{part}.parquet")
    folders = {}
    for label, sizes in ((BLIND, 96), (SEEING, 768)):
        base = tmp_path / ("blind" if label == BLIND else "seeing")
        folders[label] = {stage: base / stage for stage in ("kernel", "search", "evaluate", "watermark")}
        write_kernel(folders[label]["kernel"], sizes)
        write_search(folders[label]["search"])
    write_pictures(folders[BLIND]["watermark"], ("original", "plain", "marked", "difference"))
    write_pictures(folders[BLIND]["evaluate"], ("original", "exact", "in_box_difference"))
    return report.StageFolders({"ingest": [ingest]}, folders)


def write_kernel(folder: Path, rank: int) -> None:
    folder.mkdir(parents=True)
    sigma = np.geomspace(2.781, 0.00713, rank)
    pd.DataFrame({"index": np.arange(rank), "sigma": sigma}).to_parquet(folder / "spectrum.parquet")


def write_search(folder: Path, trials: int = 12) -> None:
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    rates, norms = 10 ** generator.uniform(-3, -0.5, trials), generator.uniform(0.2, 1.5, trials)
    steps = np.where(generator.random(trials) < 0.5, 50, 200)
    radius = norms * (1 - np.exp(-steps / 80)) * np.exp(-((np.log10(rates) + 1.4) ** 2))
    ids = [f"t{i:02d}" for i in range(trials)]
    table = {"trial_id": ids, "relative_norm": norms, "learning_rate": rates, "steps": 200, "step": steps}
    table |= {"radius": radius, "capped": 0, "agreement": 1 - norms / 5, "status": "FINISHED", "seconds": steps / 10}
    table["radius"][1], table["capped"] = np.nan, [0, 0, 1] + [0] * (trials - 3)  # one failed, one ended at the limit
    pd.DataFrame(table).to_parquet(folder / "trials.parquet")
    curves = [
        {"trial_id": ids[i], "step": s, "loss": 9 * norms[i] * np.exp(-s / 90) + 1, "radius": radius[i] * s / steps[i]}
        for i in range(trials)
        for s in range(10, steps[i] + 1, 10)
    ]
    pd.DataFrame(curves).to_parquet(folder / "curves.parquet")
    (folder / "search.json").write_text(json.dumps({"best_trial": ids[int(np.nanargmax(radius))]}))


def write_pictures(folder: Path, columns: tuple[str, ...], rows: int = 3) -> None:
    (folder / "examples").mkdir(parents=True)
    generator = np.random.default_rng(1)
    for row in range(rows):
        for column in columns:
            pixels = generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "examples" / f"{row:02d}_{column}.png")


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
def page(results: dict[str, Any], stages: report.StageFolders, tmp_path_factory: pytest.TempPathFactory) -> Page:
    tmp_path = tmp_path_factory.mktemp("page")
    config = {"data": {"source": "s3://me:secret@bucket/digits"}, "search": {"trials": 12}}
    out = report.write_report(results, stages, tmp_path / "deep" / "report.html", config=config)
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
    assert page.text.count("the kernel is trivial: the patch embedding sees every direction") >= 2
    assert "sees all 768 directions of a patch (nullity 0)" in page.text


def test_every_picture_has_words_and_lies_inside_the_page(page: Page) -> None:
    for image in page.images:
        source = image.get("src") or image.get("srcset") or ""
        assert source.startswith("data:image/png;base64,")
        Image.open(io.BytesIO(base64.b64decode(source.split(",")[1]))).verify()
        assert "srcset" in image or image.get("alt")
    assert len(page.images) == 2 * (6 + 5) + 12 + 9  # figures in two themes, pictures once


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


def test_report_of_a_run_that_did_nothing_but_fail_to_read(tmp_path: Path) -> None:
    out = report.write_report({"models": {"m": {}}}, report.StageFolders(), tmp_path / "report.html")
    assert "not run" in Page(out.read_text(encoding="utf-8")).text


def test_unreadable_reads_no_more_than_asked(stages: report.StageFolders) -> None:
    sample = unreadable(stages.shared["ingest"], limit=45)
    assert (sample.total, len(sample.rows)) == (61, 45)
    assert [row["id"] for row in sample.rows[39:41]] == ["0-39", "1-0"]


def test_figures_are_saved_and_say_the_same_twice(
    results: dict[str, Any], stages: report.StageFolders, tmp_path: Path
) -> None:
    paths = report.save_figures(results, stages, tmp_path / "figures")
    assert len({path.name for path in paths}) == len(paths) == 6 + 2 + 5  # second model: no kernel bars, no pictures
    names = {path.name for path in paths}
    assert {"digits_vit-spectrum.png", "digits_vit-watermark-examples.png"} <= names
    first = [path.read_bytes() for path in paths]
    assert first == [path.read_bytes() for path in report.save_figures(results, stages, tmp_path / "figures")]


@pytest.mark.parametrize(
    "draw",
    [
        pytest.param(lambda: drawing.spectrum([1.0, 0.0], 1e-12), id="zero-singular-value"),
        pytest.param(lambda: drawing.spectrum([1.0], 1e-12, patch_dim=9), id="one-value"),
        pytest.param(lambda: drawing.agreement_bars({"odd": {"agreement": 0.5}}), id="no-interval"),
        pytest.param(lambda: drawing.agreement_bars({}), id="no-condition"),
        pytest.param(lambda: drawing.trials_scatter(one_trial(radius=np.nan)), id="no-radius"),
        pytest.param(lambda: drawing.trials_scatter(one_trial(radius=1.0), best="t"), id="one-trial"),
        pytest.param(lambda: drawing.search_curves(one_trial(radius=np.nan)), id="no-radius-curve"),
        pytest.param(
            lambda: drawing.search_curves(one_trial(loss=-1.0), column="loss", best="t"), id="one-negative-loss"
        ),
    ],
)
@pytest.mark.filterwarnings("error")
def test_figures_of_little_data(draw: Any) -> None:
    assert draw().startswith(b"\x89PNG")


def one_trial(**columns: float) -> pd.DataFrame:
    row = {"trial_id": "t", "step": 1, "relative_norm": 0.5, "learning_rate": 0.05}
    return pd.DataFrame([row | columns])


def test_large_pictures_become_small_and_small_ones_stay_as_they_are(tmp_path: Path) -> None:
    large, small = tmp_path / "00_a.png", tmp_path / "01_a.png"
    Image.new("RGB", (1000, 500)).save(large)
    Image.new("RGB", (32, 32)).save(small)
    assert Image.open(io.BytesIO(thumbnail(large))).size == (LARGEST_SIDE, LARGEST_SIDE // 2)
    assert thumbnail(small) == small.read_bytes()
    assert examples(tmp_path).rows == []


@pytest.mark.parametrize(
    ("share", "text"),
    [(1.0, "100 %"), (0.0, "0 %"), (0.9996, "99.96 %"), (0.00004, "0.004 %"), (0.953, "95.3 %"), (None, "—")],
)
def test_a_share_is_never_rounded_to_certainty(share: float | None, text: str) -> None:
    assert wording.percent(share) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(1797, "1,797"), (2.1e-5, "2.1e-5"), (0.0, "0"), (0.8234, "0.823"), (1234.5, "1,234"), (3e9, "3.0e9"),
     (float("nan"), "—"), (True, "—"), (float("inf"), "∞")],
)  # fmt: skip
def test_numbers_are_short(value: Any, text: str) -> None:
    assert wording.number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(3.21, "3.2 s"), (59.99, "60.0 s"), (252, "4 min 12 s"), (7499, "2 h 04 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert wording.duration(seconds) == text


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
    model = {"model": {"name": "vit", **facts}, "noise": {"artifact": "/n.safetensors"}}
    snippet = load_snippet("label", model, {})
    assert f"SplitViT.load('vit', {argument})" in snippet
    compile(snippet, "snippet", "exec")
    assert "import NullNoise" in snippet and "import SplitViT" in snippet


def test_the_page_says_what_was_found_of_the_weights() -> None:
    facts = {"name": "vit", "weights_source": "file:/w.pth (EMA)", "notes": ["10 classes from the file's shapes"]}
    shown = model_section("label", {"model": {**facts, "args": {"global_pool": "avg"}}}, {}).facts
    assert ("Weights", "file:/w.pth (EMA)") in shown and ("Argument global_pool", "avg") in shown
    assert ("About them", "10 classes from the file's shapes") in shown


def printed(results: dict[str, Any], **options: Any) -> str:
    console = Console(file=io.StringIO(), **options)
    terminal.render(results, console)
    return console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]


def test_summary_in_a_pipe_is_plain_text(results: dict[str, Any]) -> None:
    text = printed(results, width=80)
    assert text.isascii() and "\x1b" not in text
    line = next(line for line in text.splitlines() if "learned noise" in line)
    assert line.split("learned noise")[1].split() == ["95.3", "%", "[94.2,", "96.4]", "1,797", "5.79"]
    assert SEEING in text and "the kernel is trivial" in text
    assert text.splitlines()[-1] == f"warning: {BLIND}: labels look <b>wrong</b>"


def test_summary_on_a_terminal_fits_eighty_columns(results: dict[str, Any]) -> None:
    text = printed(results, width=80, force_terminal=True, color_system=None)
    assert max(len(line) for line in text.splitlines() if not line.startswith("warning:")) <= 80
    assert "95.3 %" in text and "╭" in text


def test_summary_as_markdown_has_a_table_for_each_model_with_numbers(results: dict[str, Any]) -> None:
    text = terminal.as_markdown(results)
    assert text.startswith(f"**Warning:** {BLIND}: labels look")
    assert "| learned noise | 95.3 % | [94.2, 96.4] | 1,797 | 5.79 |" in text
    assert "| *same noise, permuted* |" in text and "the kernel is trivial" in text
    for table in (part.splitlines() for part in text.split("\n\n") if part.startswith("|")):
        assert {line.count("|") for line in table} == {len(terminal.COLUMNS) + 1}


def test_rendering_changes_nothing_in_the_results(
    results: dict[str, Any], stages: report.StageFolders, tmp_path: Path
) -> None:
    before = copy.deepcopy(results)
    report.write_report(results, stages, tmp_path / "report.html")
    assert results == before
