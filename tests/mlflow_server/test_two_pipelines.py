"""Two pipelines record to one server on PostgreSQL at once, and one of them outlives a while without it."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from mlflow import MlflowClient
from safetensors import safe_open

from tests.mlflow_server.conftest import Finished, Tracked, TwoRuns, all_runs
from tests.mlflow_server.server import status_of
from tests.pipelines.driver import STAGES, children_of, figures, stage_runs

pytestmark = [pytest.mark.slow, pytest.mark.ray]


@pytest.fixture(params=["undisturbed", "disturbed"])
def run(request: pytest.FixtureRequest, two_runs: TwoRuns) -> Finished:
    return getattr(two_runs, request.param)


def stage_folder(run: Finished, name: str) -> Path:
    (folder,) = (run.workdir / "stages").glob(f"{name}-*")
    return folder


def test_requests_without_the_password_are_refused(tracked: Tracked) -> None:
    assert status_of(f"{tracked.server.url}/api/2.0/mlflow/experiments/get-by-name?experiment_name=Default") == 401


def test_an_outage_changes_no_number(two_runs: TwoRuns) -> None:
    assert figures(two_runs.disturbed.results) == figures(two_runs.undisturbed.results)


def test_a_run_that_waits_prints_one_line_about_it(two_runs: TwoRuns) -> None:
    text = two_runs.disturbed.stderr
    assert text.count("does not answer (") == 1 and text.count("answers again after") == 1
    assert "the run waits for it, up to 10 minutes" in text
    assert "Traceback" not in text and "Retrying" not in text
    assert "does not" not in two_runs.undisturbed.stderr


def test_every_run_is_there_once_and_finished(client: MlflowClient, two_runs: TwoRuns) -> None:
    runs = all_runs(client)
    assert {run.info.status for run in runs} == {"FINISHED"}
    parents = {run.info.run_id for run in children_of(runs, None)}
    assert parents == {run.results["run"]["run_id"] for run in (two_runs.undisturbed, two_runs.disturbed)}
    for parent in parents:
        assert set(stage_runs(runs, parent)) == set(STAGES)
    assert len(runs) == 2 * (1 + len(STAGES) + 2)


def test_trials_have_their_whole_curves(client: MlflowClient, run: Finished) -> None:
    runs = all_runs(client)
    search = stage_runs(runs, run.results["run"]["run_id"])["search"]
    curves = pq.read_table(stage_folder(run, "search") / "curves.parquet").to_pandas()
    trials = children_of(runs, search.info.run_id)
    assert {trial.data.tags["nullspace.trial"] for trial in trials} == set(curves["trial_id"])
    for trial in trials:
        own = curves[curves["trial_id"] == trial.data.tags["nullspace.trial"]]
        points = client.get_metric_history(trial.info.run_id, "radius")
        assert len(points) == len(own)
        assert {p.step: p.value for p in points} == dict(zip(own["step"], own["radius"], strict=True))


def test_artifacts_arrive(client: MlflowClient, run: Finished, tmp_path: Path) -> None:
    run_id = run.results["run"]["run_id"]
    for name in ("report.html", "results.json"):
        assert (
            Path(client.download_artifacts(run_id, name, str(tmp_path))).read_bytes()
            == (run.workdir / name).read_bytes()
        )
    search = stage_runs(all_runs(client), run_id)["search"].info.run_id
    noise = Path(client.download_artifacts(search, "noise.safetensors", str(tmp_path)))
    assert noise.read_bytes() == (stage_folder(run, "search") / "noise.safetensors").read_bytes()


def test_the_noise_is_registered_once_and_leads_to_its_run_and_model(client: MlflowClient, two_runs: TwoRuns) -> None:
    (version,) = client.search_model_versions("name = 'demo-digits'")  # the same noise, so one version for both
    assert client.get_model_version_by_alias("demo-digits", "champion").version == version.version
    assert version.run_id == two_runs.undisturbed.results["run"]["run_id"]
    with safe_open(stage_folder(two_runs.disturbed, "search") / "noise.safetensors", "np") as noise:
        assert version.tags["nullspace.noise_sha256"] == noise.metadata()["sha256"]
    for run in (two_runs.undisturbed, two_runs.disturbed):
        content = run.results["models"]["digits"]["search"]
        assert str(content["version"]) == str(version.version)
        assert version.tags["nullspace.vit"] == content["vit_model_id"]
        found = client.get_run(run.results["run"]["run_id"])
        assert found.inputs is not None and found.outputs is not None
        assert [model.model_id for model in found.inputs.model_inputs] == [content["vit_model_id"]]
        assert [model.model_id for model in found.outputs.model_outputs] == [version.tags["nullspace.logged_model"]]


def test_the_password_is_written_nowhere(tracked: Tracked, two_runs: TwoRuns) -> None:
    secret = tracked.password.encode()
    places = [two_runs.undisturbed.workdir.parents[1], tracked.server.folder]
    places += [two_runs.undisturbed.ray, two_runs.disturbed.ray]
    files = [file for place in places for file in place.rglob("*") if file.is_file()]
    assert len(files) > 100
    assert [file for file in files if secret in file.read_bytes()] == []
    with tracked.database.connect("mlflow") as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        for (table,) in tables:
            rows = connection.execute(f"SELECT t::text FROM {table} AS t").fetchall()  # type: ignore[arg-type]
            assert not [row for row in rows if tracked.password in row[0]], table
