"""The demo through the real command line: every figure, every file, every MLflow run, and what a second run redoes."""

from __future__ import annotations

import fcntl
import json
import shutil
import time
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from pipelines.data.shards import images_of
from pipelines.evaluations.visible_watermark.mark import JPEG_QUALITIES
from tests.pipelines.conftest import DemoRun
from tests.pipelines.driver import (
    SMALL,
    STAGES,
    Driver,
    children_of,
    client_of,
    data_sets_of,
    figures,
    half_written,
    nullspace,
    runs_of,
    stage_runs,
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


def rows_of(folder: Path) -> pd.DataFrame:
    """All outcome rows of a stage, read by pandas alone."""
    return pd.concat([pq.read_table(file).to_pandas() for file in sorted(folder.glob("rows-*.parquet"))])


# ---- results.json ------------------------------------------------------------------------------------------------


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
    said = demo_run.results["models"]["digits"]["learned_noise"]["conditions"]
    assert all(said["learned"]["mse_probabilities"] < said[control]["mse_probabilities"] / 3 for control in
               ("permuted", "gaussian"))  # fmt: skip


# ---- rows --------------------------------------------------------------------------------------------------------


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
        for name, said in model[stage]["conditions"].items():
            check_outcome(said, counted[counted["condition"] == name])
            checked += 1
    assert checked == 7


def check_outcome(said: dict[str, Any], rows: Any) -> None:
    assert said["n"] == len(rows)
    assert said["agreement"] == rows["agree"].mean()
    assert np.all(rows["agree"] == (rows["prediction_clean"] == rows["prediction_noised"]))
    assert said["agreement_ci"] == pytest.approx(wilson(int(rows["agree"].sum()), len(rows)), abs=1e-9)
    for what in ("features", "logits", "probabilities"):
        column = {"features": "feature", "logits": "logit", "probabilities": "probability"}[what]
        values = rows[f"squared_{column}_change"].astype(np.float64)
        assert said[f"mse_{what}"] == pytest.approx(values.mean(), rel=1e-5)
        low, high = said[f"mse_{what}_ci"]
        assert low <= said[f"mse_{what}"] <= high
    assert said["max_abs_logit_change"] == pytest.approx(rows["max_abs_logit_change"].max(), rel=1e-6)
    change = (rows["confidence_noised"] - rows["confidence_clean"]).astype(np.float64).mean()
    assert said["confidence_change"] == pytest.approx(change, abs=1e-6)


def wilson(successes: int, n: int) -> list[float]:
    """Wilson's 95 % interval, written down once more from the textbook."""
    z, share = 1.959963984540054, successes / n
    middle, half = share + z * z / (2 * n), z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return [(middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)]


def test_figures_of_the_watermark_are_those_of_its_rows(demo_run: DemoRun) -> None:
    rows = rows_of(demo_run.stage("visible_watermark"))
    ids = sorted(rows_of(demo_run.stage("reference"))["id"])
    for condition, said in demo_run.results["models"]["digits"]["visible_watermark"]["conditions"].items():
        own = rows[rows["condition"] == condition]
        assert said["n"] == IMAGES and sorted(own["id"]) == ids
        assert said["agreement"] == own["agree"].mean()
        assert said["max_probability_change"] == own["probability_change"].max()
        for name in ("psnr", "ssim"):
            values = own[name].astype(np.float64)
            assert said[name] == pytest.approx(values[np.isfinite(values)].mean(), rel=1e-5)


def test_hidden_messages_fit_into_the_demo_and_are_read_after_jpeg(demo_run: DemoRun) -> None:
    found = demo_run.results["models"]["digits"]["payload"]
    read = {name: said.get("word_accuracy") for name, said in found["conditions"].items()}
    assert found["settings"]["message_bytes"] == 8 and found["warnings"] == []
    assert read["none"] == read["jpeg_90"] == read["jpeg_75"] == 1 and (read["jpeg_50"] or 0) > 0.95
    assert "Read back after distortions" in (demo_run.workdir / "report.html").read_text(encoding="utf-8")


def test_clean_accuracy_is_that_of_the_rows(demo_run: DemoRun) -> None:
    rows = rows_of(demo_run.stage("reference"))
    said = demo_run.results["models"]["digits"]["reference"]["clean_accuracy"]
    assert said["n"] == IMAGES and said["accuracy"] == (rows["label"] == rows["prediction"]).mean()


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


# ---- files -------------------------------------------------------------------------------------------------------


def test_report_is_whole(demo_run: DemoRun) -> None:
    page = (demo_run.workdir / "report.html").read_text(encoding="utf-8")
    assert page.rstrip().endswith("</html>") and page.count("<html") == 1
    assert "digits" in page and "data:image/png;base64," in page
    assert page == (demo_run.stage("report") / "report.html").read_text(encoding="utf-8")


def test_nothing_half_written_is_left(demo_run: DemoRun) -> None:
    assert half_written(demo_run.workdir) == []
    assert {folder.name.partition("-")[0] for folder in (demo_run.workdir / "stages").iterdir()} == set(STAGES)


# ---- MLflow ------------------------------------------------------------------------------------------------------


def test_lineage_in_mlflow(demo_run: DemoRun) -> None:
    runs = runs_of(demo_run.workdir)
    (parent,) = children_of(runs, None)
    assert parent.info.run_id == demo_run.results["run"]["run_id"]
    stages = stage_runs(runs, parent.info.run_id)
    assert set(stages) == set(STAGES)
    branches = {name: run.data.tags.get("nullspace.branch") for name, run in stages.items()}
    assert branches == {**dict.fromkeys(STAGES, "digits"), "ingest": branches["ingest"], "report": None}
    trials = children_of(runs, stages["search"].info.run_id)
    assert len(trials) == int(SMALL["search.trials"])
    assert len(runs) == 1 + len(STAGES) + len(trials)
    assert {run.info.status for run in runs} == {"FINISHED"}


def test_what_mlflow_holds_of_each_run(demo_run: DemoRun) -> None:
    client, runs = client_of(demo_run.workdir), runs_of(demo_run.workdir)
    (parent,) = children_of(runs, None)
    assert parent.data.params["search.trials"] == SMALL["search.trials"] and parent.data.params["seed"] == "0"
    own = {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert own == {"config.yaml", "environment.json", "report.html", "results.json"}
    assert "| kernel noise | 100 % |" in parent.data.tags["mlflow.note.content"]
    stages = stage_runs(runs, parent.info.run_id)
    files = {name: {file.path for file in client.list_artifacts(run.info.run_id)} for name, run in stages.items()}
    assert {"noise.safetensors", "trials.parquet", "curves.parquet"} <= files["search"]
    assert {"report.html", "results.json", "figures"} <= files["report"]
    assert {"kernel.json", "spectrum.parquet"} <= files["kernel"]
    assert all("examples" in files[stage] for stage in ("kernel_noise", "visible_watermark", "payload", "fooling"))
    assert stages["kernel"].data.metrics["nullity"] == demo_run.results["models"]["digits"]["kernel"]["nullity"]
    model = demo_run.results["models"]["digits"]
    for stage, condition, name in (
        ("learned_noise", "learned", "agreement"),
        ("payload", "jpeg_50", "word_accuracy"),
        ("payload", "noise_0.02", "bit_accuracy"),
    ):
        metric = stages[stage].data.metrics[f"conditions.{condition}.{name}"]
        assert metric == model[stage]["conditions"][condition][name]


def test_the_run_of_one_model_is_its_row(demo_run: DemoRun) -> None:
    client, said = client_of(demo_run.workdir), demo_run.results["models"]["digits"]
    (parent,) = children_of(runs_of(demo_run.workdir), None)
    (row,) = client.search_runs([parent.info.experiment_id], "tags.`nullspace.kind` = 'model'")
    assert row.info.run_id == parent.info.run_id and f"{demo_run.workdir.parent.name}/work " in str(row.info.run_name)
    metrics, learned = row.data.metrics, said["learned_noise"]["conditions"]["learned"]
    assert metrics["learned_noise.learned.agreement"] == learned["agreement"]
    assert metrics["relative_norm"] == said["search"]["relative_norm"]
    assert metrics["guaranteed_mse_probabilities"] == said["search"]["guarantee"]["bound"]
    assert metrics["clean_accuracy"] == said["reference"]["clean_accuracy"]["accuracy"]
    assert (metrics["kernel.nullity"], metrics["kernel_noise.exact.agreement"]) == (said["kernel"]["nullity"], 1.0)
    assert metrics["visible_watermark.marked.psnr"] == said["visible_watermark"]["conditions"]["marked"]["psnr"]
    assert metrics["payload.jpeg_75.word_accuracy"] == 1
    assert row.data.params["model"] == said["model"]["name"]
    assert row.data.params["weights_sha256"] == said["model"]["weights_sha256"]


def test_the_images_are_a_data_set_of_every_run_that_reads_them(demo_run: DemoRun) -> None:
    runs = runs_of(demo_run.workdir)
    (parent,) = children_of(runs, None)
    read = {}
    for name, run in {"run": parent, **stage_runs(runs, parent.info.run_id)}.items():
        for found in data_sets_of(run):
            (tag,) = found.tags
            read[name] = (tag.key, tag.value)
            assert (found.dataset.name, found.dataset.source_type) == ("digits held_out", "sklearn")
            assert json.loads(found.dataset.profile or "")["images"] == IMAGES
    contexts = {"ingest": "ingest", "search": "training"}
    reading = ("run", *(stage for stage in STAGES if stage not in ("kernel", "report")))
    assert read == {name: ("mlflow.data.context", contexts.get(name, "evaluation")) for name in reading}
    digests = {found.dataset.digest for run in runs for found in data_sets_of(run)}
    assert len(digests) == 1


def test_trials_have_params_and_metrics_by_step(demo_run: DemoRun) -> None:
    client, runs = client_of(demo_run.workdir), runs_of(demo_run.workdir)
    curves = pq.read_table(demo_run.stage("search") / "curves.parquet").to_pandas()
    (search,) = [run for run in runs if run.data.tags.get("nullspace.stage") == "search"]
    for trial in children_of(runs, search.info.run_id):
        assert {"relative_norm", "learning_rate", "steps"} == set(trial.data.params)
        own = curves[curves["trial_id"] == trial.data.tags["nullspace.trial"]]
        history = client.get_metric_history(trial.info.run_id, "radius")
        assert {p.step: p.value for p in history} == dict(zip(own["step"], own["radius"], strict=True))


def test_champion_loads_by_name_and_predicts(demo_run: DemoRun, monkeypatch: pytest.MonkeyPatch) -> None:
    client, noise = client_of(demo_run.workdir), demo_run.results["models"]["digits"]["search"]
    version = client.get_model_version_by_alias("demo-digits", "champion")
    assert noise["registered_model"] == "demo-digits" and str(version.version) == str(noise["version"]) == "1"
    assert "times the token norm leaves" in (version.description or "")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", client.tracking_uri)
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", client.tracking_uri)
    model = mlflow.pyfunc.load_model("models:/demo-digits@champion", model_config={"device": "cpu"})
    shard = pq.read_table(sorted(demo_run.stage("ingest").glob("shard-*.parquet"))[0])
    images = images_of(shard.column("image"), shard.schema.field("image")).transpose(0, 2, 3, 1)
    found = model.predict(np.ascontiguousarray(images))
    rows = rows_of(demo_run.stage("learned_noise"))
    rows = rows[rows["condition"] == "learned"].set_index("id").loc[shard.column("id").to_pylist()]
    assert found["clean_prediction"].tolist() == rows["prediction_clean"].tolist()
    assert found["noised_prediction"].tolist() == rows["prediction_noised"].tolist()


def test_the_vit_is_recorded_as_the_model_the_noise_points_to(demo_run: DemoRun) -> None:
    client, model = client_of(demo_run.workdir), demo_run.results["models"]["digits"]
    logged = client.get_logged_model(model["search"]["vit_model_id"])
    assert logged.params["weights_sha256"] == model["model"]["weights_sha256"]
    assert logged.params["name"] == model["model"]["name"]


# ---- a second run ------------------------------------------------------------------------------------------------


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
    begins = [line.split()[0] for line in driver.said.splitlines()]
    assert begins == ["mlflow", "model", *["reused"] * len(STAGES), *["stage"] * len(STAGES)]
    assert results == demo_run.results


def test_changed_mark_is_made_anew_and_nothing_else_but_the_report(demo_run: DemoRun, tmp_path: Path) -> None:
    workdir = tmp_path / "work"
    shutil.copytree(demo_run.workdir, workdir)
    with Driver(workdir, settings={**SMALL, "visible_watermark.text": "OTHER"}) as driver:
        changed = driver.results()
        made = [line.split()[1].partition("--")[0] for line in driver.said.splitlines() if line.startswith("running ")]
        assert made == ["visible_watermark", "report"]
        assert driver.said.count("reused ") == len(STAGES) - 2
    ours, theirs = figures(demo_run.results), figures(changed)
    assert ours.pop("visible_watermark") != theirs.pop("visible_watermark")
    assert ours == theirs


# ---- a folder that is not ours to take ---------------------------------------------------------------------------


def test_another_experiment_in_the_folder_is_refused(demo_run: DemoRun) -> None:
    answer = nullspace("run", "demo", "--workdir", str(demo_run.workdir), "--set", "name=other")
    assert answer.is_one_error
    assert "is the work folder of experiment 'demo', not of 'other'" in answer.err


def test_two_runs_at_a_time_in_one_folder_are_refused(demo_run: DemoRun) -> None:
    with (demo_run.workdir / ".lock").open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        answer = nullspace("run", "demo", "--workdir", str(demo_run.workdir))
    assert answer.is_one_error and "is in use by" in answer.err
