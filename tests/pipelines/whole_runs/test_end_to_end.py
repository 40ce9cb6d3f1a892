"""The demo through the real command line: every figure, every file, every MLflow run, and what a second run redoes."""

from __future__ import annotations

import fcntl
import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipelines.evaluations.visible_watermark.mark import JPEG_QUALITIES
from tests.pipelines.conftest import DemoRun
from tests.pipelines.driver import (
    SMALL,
    STAGES,
    Driver,
    figures,
    half_written,
    nullspace,
    rows_of,
    runs_of,
)

pytestmark = [pytest.mark.slow, pytest.mark.ray]

IMAGES = int(SMALL["source.limit"])
PARTS = {part: int(SMALL[f"search.{part}_images"]) for part in ("learn", "validation", "calibration")}
TESTED = IMAGES - sum(PARTS.values())
OUTCOME = ("agreement", "agreement_ci", "n", "mse_logits", "mse_probabilities")
JPEG = tuple(f"jpeg_{quality}" for quality in JPEG_QUALITIES)
CONDITIONS = {
    "kernel_noise": ("exact", "permuted", "gaussian", "in_box"),
    "learned_noise": ("learned", "permuted", "gaussian"),
    "visible_watermark": ("marked", "plain", "permuted", *JPEG),
    "payload": ("unmarked", "none", "jpeg_90", "jpeg_75", "jpeg_50", "noise_0.02"),
}
PROMISED = [
    *(f"models.digits.kernel.{name}" for name in ("patch_dim", "embed_dim", "rank", "nullity", "rtol")),
    *(
        f"models.digits.search.{name}"
        for name in ("norm", "relative_norm", "artifact", "registered_model", "version", "spread")
    ),
    *(f"models.digits.search.guarantee.{name}" for name in ("epsilon", "bound", "confidence", "n", "scale")),
    *(f"models.digits.learned_noise.conditions.{c}.{name}" for c in CONDITIONS["learned_noise"] for name in OUTCOME),
    *(f"models.digits.kernel_noise.conditions.exact.{name}" for name in (*OUTCOME, "max_abs_logit_change")),
    *(
        f"models.digits.visible_watermark.conditions.marked.{name}"
        for name in ("psnr", "ssim", "agreement", "n", "max_probability_change")
    ),
    *(f"models.digits.visible_watermark.conditions.{condition}.{name}" for condition in JPEG for name in OUTCOME),
    *(f"models.digits.payload.conditions.jpeg_50.{name}" for name in ("word_accuracy", "bit_accuracy", "agreement")),
    "models.digits.payload.settings.message_bytes",
    *(f"run.{name}" for name in ("experiment", "run_id", "seconds")),
]


@pytest.mark.parametrize("key", PROMISED)
def test_results_hold_every_promised_key(demo_run: DemoRun, key: str) -> None:
    value: Any = demo_run.results
    for part in key.split("."):
        value = value[part]
    assert value is not None


def test_results_are_what_was_printed_and_plain_json(demo_run: DemoRun) -> None:
    text = (demo_run.workdir / "results.json").read_text(encoding="utf-8")
    assert json.loads(text, parse_constant=pytest.fail) == demo_run.results


def test_exact_kernel_noise_changes_no_prediction(demo_run: DemoRun) -> None:
    model = demo_run.results["models"]["digits"]
    kernel, conditions = model["kernel"], model["kernel_noise"]["conditions"]
    assert kernel["rank"] + kernel["nullity"] == kernel["patch_dim"] and kernel["nullity"] > 0
    exact, permuted = conditions["exact"], conditions["permuted"]
    assert exact["agreement"] == 1 and exact["n"] == IMAGES
    assert exact["max_abs_logit_change"] < 1e-3
    assert exact["noise_rms"] == pytest.approx(permuted["noise_rms"], rel=1e-4)
    assert permuted["mse_logits"] > 1e6 * exact["mse_logits"]


def test_learned_noise_is_less_noticed_than_its_controls(demo_run: DemoRun) -> None:
    outcome = demo_run.results["models"]["digits"]["learned_noise"]["conditions"]
    assert all(outcome["learned"]["mse_probabilities"] < outcome[control]["mse_probabilities"] / 3 for control in
               ("permuted", "gaussian"))  # fmt: skip


def test_every_id_is_there_once_per_condition(demo_run: DemoRun) -> None:
    ids = set(rows_of(demo_run.stage("reference"))["id"])
    assert len(ids) == IMAGES
    for stage, names in CONDITIONS.items():
        conditions = rows_of(demo_run.stage(stage)).groupby("condition")["id"]
        assert set(conditions.groups) == set(names) == set(demo_run.results["models"]["digits"][stage]["conditions"])
        for condition, found in conditions:
            assert len(found) == IMAGES and set(found) == ids, (stage, condition)


def test_fooling_is_asked_of_as_many_pairs_as_the_config_says(demo_run: DemoRun) -> None:
    rows, found = rows_of(demo_run.stage("fooling")), demo_run.results["models"]["digits"]["fooling"]["conditions"]
    drawn = set(rows["id"])
    assert len(drawn) == int(SMALL["fooling.pairs"]) and drawn < set(rows_of(demo_run.stage("reference"))["id"])
    assert set(rows.groupby("condition").groups) == set(found)
    assert all(len(each) == len(drawn) for _, each in rows.groupby("condition"))
    assert found["exact"]["agreement"] == 1 and found["logits_eps16"]["n"] == len(drawn)


def test_the_split_has_the_sizes_asked_for(demo_run: DemoRun) -> None:
    rows = rows_of(demo_run.stage("learned_noise"))
    sizes = rows[rows["condition"] == "learned"].groupby("split").size().to_dict()
    assert sizes == {**PARTS, "test": TESTED}


def test_figures_of_conditions_are_those_of_their_rows(demo_run: DemoRun) -> None:
    model, checked = demo_run.results["models"]["digits"], 0
    for stage in ("kernel_noise", "learned_noise"):
        rows = rows_of(demo_run.stage(stage))
        counted = rows[rows["split"] == "test"] if stage == "learned_noise" else rows
        for name, outcome in model[stage]["conditions"].items():
            check_outcome(outcome, counted[counted["condition"] == name])
            checked += 1
    assert checked == 7


def check_outcome(found: dict[str, Any], rows: Any) -> None:
    assert found["n"] == len(rows)
    assert found["agreement"] == rows["agree"].mean()
    assert np.all(rows["agree"] == (rows["prediction_clean"] == rows["prediction_noised"]))
    assert found["agreement_ci"] == pytest.approx(wilson(int(rows["agree"].sum()), len(rows)), abs=1e-9)
    for what in ("features", "logits", "probabilities"):
        column = {"features": "feature", "logits": "logit", "probabilities": "probability"}[what]
        values = rows[f"squared_{column}_change"].astype(np.float64)
        assert found[f"mse_{what}"] == pytest.approx(values.mean(), rel=1e-5)
        low, high = found[f"mse_{what}_ci"]
        assert low <= found[f"mse_{what}"] <= high
    assert found["max_abs_logit_change"] == pytest.approx(rows["max_abs_logit_change"].max(), rel=1e-6)
    change = (rows["confidence_noised"] - rows["confidence_clean"]).astype(np.float64).mean()
    assert found["confidence_change"] == pytest.approx(change, abs=1e-6)


def wilson(successes: int, n: int) -> list[float]:
    """Wilson's 95 % interval, written down once more from the textbook."""
    z, share = 1.959963984540054, successes / n
    middle, half = share + z * z / (2 * n), z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return [(middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)]


def test_figures_of_the_watermark_are_those_of_its_rows(demo_run: DemoRun) -> None:
    rows = rows_of(demo_run.stage("visible_watermark"))
    ids = sorted(rows_of(demo_run.stage("reference"))["id"])
    for condition, outcome in demo_run.results["models"]["digits"]["visible_watermark"]["conditions"].items():
        own = rows[rows["condition"] == condition]
        assert outcome["n"] == IMAGES and sorted(own["id"]) == ids
        assert outcome["agreement"] == own["agree"].mean()
        assert outcome["max_probability_change"] == own["probability_change"].max()
        for name in ("psnr", "ssim"):
            values = own[name].astype(np.float64)
            assert outcome[name] == pytest.approx(values[np.isfinite(values)].mean(), rel=1e-5)


def test_hidden_messages_fit_into_the_demo_and_are_read_after_jpeg(demo_run: DemoRun) -> None:
    found = demo_run.results["models"]["digits"]["payload"]
    read = {name: outcome.get("word_accuracy") for name, outcome in found["conditions"].items()}
    assert found["settings"]["message_bytes"] == 8 and found["warnings"] == []
    assert read["none"] == read["jpeg_90"] == read["jpeg_75"] == 1 and (read["jpeg_50"] or 0) > 0.95
    assert "Read back after distortions" in (demo_run.workdir / "report.html").read_text(encoding="utf-8")


def test_clean_accuracy_is_that_of_the_rows(demo_run: DemoRun) -> None:
    rows = rows_of(demo_run.stage("reference"))
    outcome = demo_run.results["models"]["digits"]["reference"]["clean_accuracy"]
    assert outcome["n"] == IMAGES and outcome["accuracy"] == (rows["label"] == rows["prediction"]).mean()


def test_best_trial_is_the_one_of_largest_radius(demo_run: DemoRun) -> None:
    trials = pq.read_table(demo_run.stage("search") / "trials.parquet").to_pandas()
    noise = demo_run.results["models"]["digits"]["search"]
    best = trials.loc[trials["radius"].idxmax()]
    assert len(trials) == int(SMALL["search.trials"]) == noise["trials"] and noise["failed"] == 0
    assert noise["best_trial"] == best["trial_id"]
    learned_at = best["radius"] / best["scale"]
    assert noise["relative_norm"] == pytest.approx(learned_at * noise["guarantee"]["scale"], rel=1e-4)
    curves = pq.read_table(demo_run.stage("search") / "curves.parquet").to_pandas()
    assert not curves.duplicated(["trial_id", "step"]).any()
    assert set(curves.groupby("trial_id")["step"].max()) == set(trials["step"])


def test_report_is_whole(demo_run: DemoRun) -> None:
    page = (demo_run.workdir / "report.html").read_text(encoding="utf-8")
    assert page.rstrip().endswith("</html>") and page.count("<html") == 1
    assert "digits" in page and "data:image/png;base64," in page
    assert page == (demo_run.stage("report") / "report.html").read_text(encoding="utf-8")


def test_nothing_half_written_is_left(demo_run: DemoRun) -> None:
    assert half_written(demo_run.workdir) == []
    assert {folder.name.partition("-")[0] for folder in (demo_run.workdir / "stages").iterdir()} == set(STAGES)


@pytest.fixture(scope="module")
def again(demo_run: DemoRun) -> tuple[Driver, dict[str, Any]]:
    """The same command once more, in place: it must change nothing, so the others may still look."""
    files, runs = files_of(demo_run.workdir), runs_of(demo_run.workdir)
    with Driver(demo_run.workdir) as driver:
        while driver.process.poll() is None:
            assert not driver.processes(only=("raylet", "gcs_server")), "Ray was started for nothing"
            time.sleep(0.2)
        results = driver.results()
    assert files_of(demo_run.workdir) == files
    after = runs_of(demo_run.workdir)
    assert {run.info.run_id for run in after} == {run.info.run_id for run in runs}
    assert {run.info.status for run in after} == {"FINISHED"}
    return driver, results


def files_of(workdir: Path) -> dict[str, int]:
    """Stage files with their times: what a rerun must not touch."""
    return {str(path): path.stat().st_mtime_ns for path in (workdir / "stages").rglob("*") if path.is_file()}


def test_rerun_reuses_everything(demo_run: DemoRun, again: tuple[Driver, dict[str, Any]]) -> None:
    driver, results = again
    begins = [line.split()[0] for line in driver.stderr.splitlines()]
    assert begins == ["mlflow", "model", *["reused"] * len(STAGES), *["stage"] * len(STAGES)]
    assert results == demo_run.results


def test_changed_mark_is_made_anew_and_nothing_else_but_the_report(demo_run: DemoRun, tmp_path: Path) -> None:
    workdir = tmp_path / "work"
    shutil.copytree(demo_run.workdir, workdir)
    with Driver(workdir, settings={**SMALL, "visible_watermark.text": "OTHER"}) as driver:
        changed = driver.results()
        made = [
            line.split()[1].partition("--")[0] for line in driver.stderr.splitlines() if line.startswith("running ")
        ]
        assert made == ["visible_watermark", "report"]
        assert driver.stderr.count("reused ") == len(STAGES) - 2
    ours, theirs = figures(demo_run.results), figures(changed)
    assert ours.pop("visible_watermark") != theirs.pop("visible_watermark")
    assert ours == theirs


def test_another_experiment_in_the_folder_is_refused(demo_run: DemoRun) -> None:
    answer = nullspace("run", "demo", "--workdir", str(demo_run.workdir), "--set", "name=other")
    assert answer.is_one_error
    assert "is the work folder of experiment 'demo', not of 'other'" in answer.err


def test_two_runs_at_a_time_in_one_folder_are_refused(demo_run: DemoRun) -> None:
    with (demo_run.workdir / ".lock").open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        answer = nullspace("run", "demo", "--workdir", str(demo_run.workdir))
    assert answer.is_one_error and "is in use by" in answer.err
