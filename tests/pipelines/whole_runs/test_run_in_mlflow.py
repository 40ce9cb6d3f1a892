"""What MLflow holds of a whole run: lineage, figures, data sets, trials, the noise and its model."""

from __future__ import annotations

import json

import mlflow.pyfunc
import numpy as np
import pyarrow.parquet as pq
import pytest

from pipelines.data.shards import images_of
from tests.pipelines.conftest import DemoRun
from tests.pipelines.driver import (
    SMALL,
    STAGES,
    children_of,
    client_of,
    data_sets_of,
    rows_of,
    runs_of,
    stage_runs,
)

pytestmark = [pytest.mark.slow, pytest.mark.ray]


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
    client, content = client_of(demo_run.workdir), demo_run.results["models"]["digits"]
    (parent,) = children_of(runs_of(demo_run.workdir), None)
    (row,) = client.search_runs([parent.info.experiment_id], "tags.`nullspace.kind` = 'model'")
    assert row.info.run_id == parent.info.run_id and f"{demo_run.workdir.parent.name}/work " in str(row.info.run_name)
    metrics, learned = row.data.metrics, content["learned_noise"]["conditions"]["learned"]
    assert metrics["learned_noise.learned.agreement"] == learned["agreement"]
    assert metrics["relative_norm"] == content["search"]["relative_norm"]
    assert metrics["guaranteed_mse_probabilities"] == content["search"]["guarantee"]["bound"]
    assert metrics["clean_accuracy"] == content["reference"]["clean_accuracy"]["accuracy"]
    assert (metrics["kernel.nullity"], metrics["kernel_noise.exact.agreement"]) == (content["kernel"]["nullity"], 1.0)
    assert metrics["visible_watermark.marked.psnr"] == content["visible_watermark"]["conditions"]["marked"]["psnr"]
    assert metrics["payload.jpeg_75.word_accuracy"] == 1
    assert row.data.params["model"] == content["model"]["name"]
    assert row.data.params["weights_sha256"] == content["model"]["weights_sha256"]


def test_the_images_are_a_data_set_of_every_run_that_reads_them(demo_run: DemoRun) -> None:
    runs = runs_of(demo_run.workdir)
    (parent,) = children_of(runs, None)
    read = {}
    for name, run in {"run": parent, **stage_runs(runs, parent.info.run_id)}.items():
        for found in data_sets_of(run):
            (tag,) = found.tags
            read[name] = (tag.key, tag.value)
            assert (found.dataset.name, found.dataset.source_type) == ("digits held_out", "sklearn")
            assert json.loads(found.dataset.profile or "")["images"] == int(SMALL["source.limit"])
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
