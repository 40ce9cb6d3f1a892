"""The one writer to MLflow, on a real SQLite store: lineage, resume without doubles, nothing lost."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from mlflow.entities import Dataset

from pipelines.tracking.tracker import Tracker


def again(tracker: Tracker) -> Tracker:
    """What the next process has: the same store and experiment, another session."""
    return Tracker(tracker.uri, tracker.experiment)


def begin(tracker: Tracker, **params: object) -> str:
    return tracker.begin_run("key", name="run", tags={}, params=params)


def stage_of(tracker: Tracker, parent: str, fingerprint: str = "f1") -> str:
    return tracker.begin_stage(parent, stage="search", branch="vit", fingerprint=fingerprint, params={"lr": 0.1})


def status(tracker: Tracker, run_id: str) -> str:
    return tracker.client.get_run(run_id).info.status


def history(tracker: Tracker, run_id: str, key: str) -> list[tuple[int, float]]:
    points = tracker.client.get_metric_history(run_id, key)
    return [(point.step, point.value) for point in sorted(points, key=lambda point: (point.step, point.timestamp))]


def test_lineage_is_written_as_tags(tracker: Tracker) -> None:
    parent = begin(tracker)
    stage = stage_of(tracker, parent)
    trial = tracker.begin_trial(stage, trial_id="a1", params={"x": 1})
    tags = tracker.client.get_run(stage).data.tags
    assert tags["mlflow.parentRunId"] == parent
    assert (tags["nullspace.stage"], tags["nullspace.branch"], tags["nullspace.fingerprint"]) == ("search", "vit", "f1")
    assert tracker.client.get_run(trial).data.tags["mlflow.parentRunId"] == stage


@pytest.mark.parametrize("ending", ["FINISHED", "FAILED", "KILLED", None])
def test_a_resumed_process_continues_the_same_runs(tracker: Tracker, ending: str | None) -> None:
    parent = begin(tracker)
    stage = stage_of(tracker, parent)
    trial = tracker.begin_trial(stage, trial_id="a1", params={})
    for run_id in (trial, stage, parent) if ending else ():
        tracker.end(run_id, ending)  # type: ignore[arg-type]
    later = again(tracker)
    assert begin(later) == parent
    assert stage_of(later, parent) == stage
    assert later.begin_trial(stage, trial_id="a1", params={}) == trial
    assert [status(later, run_id) for run_id in (parent, stage, trial)] == ["RUNNING"] * 3
    assert later.client.get_run(stage).data.tags["nullspace.session"] == later.session
    assert len(later.client.search_runs([later.experiment_id])) == 3


def test_another_key_fingerprint_or_branch_is_another_run(tracker: Tracker) -> None:
    parent = begin(tracker)
    other = tracker.begin_run("it's another", name="run", tags={}, params={})
    runs = {stage_of(tracker, parent, "f1"), stage_of(tracker, parent, "f2"), stage_of(tracker, other, "f1")}
    runs.add(tracker.begin_stage(parent, stage="search", branch="deit", fingerprint="f1", params={}))
    assert len({parent, other, *runs}) == 6


def test_models_have_runs_of_their_own_between_run_and_stages(tracker: Tracker) -> None:
    parent = begin(tracker)
    rows = {
        label: tracker.begin_branch(parent, branch=label, tags={"nullspace.kind": "model"}, params={"model": label})
        for label in ("vit", "deit")
    }
    stages = {label: stage_of(tracker, row) for label, row in rows.items()}
    assert len({parent, *rows.values(), *stages.values()}) == 5
    later = again(tracker)
    assert begin(later) == parent
    assert {status(later, run_id) for run_id in (*rows.values(), *stages.values())} == {"KILLED"}, "two levels down"
    for label, row in rows.items():
        assert later.begin_branch(parent, branch=label, tags={}, params={"model": label}) == row
        assert stage_of(later, row) == stages[label]
    assert set(later.close_children(parent, "FAILED")) == {*rows.values(), *stages.values()}


def test_a_data_set_is_on_a_run_once(tracker: Tracker) -> None:
    run, dataset = begin(tracker), Dataset("val", "0123", "local", '{"uri": "/val"}', None, "{}")
    tracker.dataset(run, dataset, "training")
    later = again(tracker)
    begin(later)
    later.dataset(run, dataset, "training")
    inputs = later.client.get_run(run).inputs
    assert inputs is not None
    (found,) = inputs.dataset_inputs
    assert (found.dataset.name, found.dataset.digest, found.tags[0].value) == ("val", "0123", "training")


def test_beginning_again_kills_what_a_dead_driver_left(tracker: Tracker) -> None:
    parent = begin(tracker)
    stage = stage_of(tracker, parent)
    trial = tracker.begin_trial(stage, trial_id="a1", params={})
    elsewhere = tracker.begin_run("other", name="run", tags={}, params={})
    begin(again(tracker))
    assert [status(tracker, run_id) for run_id in (parent, stage, trial)] == ["RUNNING", "KILLED", "KILLED"]
    assert status(tracker, elsewhere) == "RUNNING"


def test_close_children_reaches_grandchildren_and_leaves_finished_ones(tracker: Tracker) -> None:
    parent = begin(tracker)
    done, stage = stage_of(tracker, parent, "f1"), stage_of(tracker, parent, "f2")
    trial = tracker.begin_trial(done, trial_id="a1", params={})
    tracker.end(done, "FINISHED")
    assert set(tracker.close_children(parent, "FAILED")) == {stage, trial}
    assert [status(tracker, r) for r in (parent, done, stage, trial)] == ["RUNNING", "FINISHED", "FAILED", "FAILED"]


def test_curve_points_are_written_once_over_processes(tracker: Tracker) -> None:
    run = begin(tracker)
    for step in (1, 2, 3):
        tracker.metrics(run, {"loss": 1 / step}, step)
    tracker.metrics(run, {"loss": 9.0}, 3)
    later = again(tracker)
    begin(later)
    for step in (2, 3, 4):
        later.metrics(run, {"loss": 1 / step + 1e-9}, step)
    assert history(later, run, "loss") == [(1, 1.0), (2, 0.5), (3, 1 / 3), (4, 0.25 + 1e-9)]


def test_summaries_are_written_again_only_when_changed(tracker: Tracker) -> None:
    run = begin(tracker)
    tracker.metrics(run, {"agreement": 0.5})
    later = again(tracker)
    begin(later)
    later.metrics(run, {"agreement": 0.5})
    assert history(later, run, "agreement") == [(0, 0.5)]
    later.metrics(run, {"agreement": 0.75})
    assert later.client.get_run(run).data.metrics["agreement"] == 0.75


def test_more_points_than_one_call_takes(tracker: Tracker) -> None:
    run = begin(tracker)
    tracker.series(run, [(step, {"a": step, "b": -step}, 1_000 + step) for step in range(700)])
    assert history(tracker, run, "b") == [(step, -step) for step in range(700)]


def test_nonfinite_metrics_become_a_tag_and_none_is_skipped(tracker: Tracker) -> None:
    run = begin(tracker)
    values = {1: float("nan"), 2: 0.5, 3: float("inf"), 4: float("-inf")}
    for step, value in values.items():
        tracker.metrics(run, {"loss": value, "absent": None}, step)
    later = again(tracker)
    begin(later)
    later.metrics(run, {"loss": float("inf")}, 3)  # told before the resume
    later.metrics(run, {"loss": float("nan")}, 5)
    data = later.client.get_run(run).data
    record = json.loads(data.tags["nullspace.nonfinite.loss"])
    assert record == {"count": 4, "first": [1, "nan"], "last": [5, "nan"]}
    assert data.metrics == {"loss": 0.5}


def test_a_metric_that_is_no_number_is_named(tracker: Tracker) -> None:
    with pytest.raises(TypeError, match="metric 'loss': expected one number, got str 'high'"):
        tracker.metrics(begin(tracker), {"loss": "high"})


def test_parameters_nested_many_and_again(tracker: Tracker) -> None:
    many = {f"p{i}": i for i in range(150)}
    run = begin(tracker, model={"name": "vit", "sizes": [1, 2]}, nothing=None, **many)
    later = again(tracker)
    assert begin(later, model={"name": "vit", "sizes": [1, 2]}, nothing=None, **many) == run
    stored = later.client.get_run(run).data.params
    assert stored["model.name"] == "vit" and stored["model.sizes"] == "[1, 2]" and stored["nothing"] == "null"
    assert len(stored) == 153


def test_a_changed_parameter_is_kept_beside_the_first(tracker: Tracker) -> None:
    run = begin(tracker, device="cpu")
    later = again(tracker)
    begin(later, device="cuda")
    data = later.client.get_run(run).data
    assert (data.params["device"], data.tags["nullspace.changed.device"]) == ("cpu", "cuda")


def test_long_values_are_cut_and_stored_whole(tracker: Tracker, tmp_path: Path) -> None:
    long = "x" * 9000
    run = begin(tracker, text=long)
    tracker.tags(run, {"story": long})
    data = tracker.client.get_run(run).data
    assert len(data.params["text"]) == 6000 and len(data.tags["story"]) == 8000
    for file in ("params/text.txt", "tags/story.txt"):
        assert Path(tracker.client.download_artifacts(run, file, str(tmp_path))).read_text() == long
    assert begin(again(tracker), text=long) == run


def test_artifacts_of_every_kind_lie_beside_the_database(tracker: Tracker, tmp_path: Path) -> None:
    from matplotlib.figure import Figure

    (tmp_path / "noise.bin").write_bytes(b"1")
    run = begin(tracker)
    tracker.artifact(run, tmp_path / "noise.bin")
    tracker.artifact(run, tmp_path, "folder")
    tracker.json_artifact(run, {"a": 1}, "a.json")
    tracker.text_artifact(run, "text", "a.txt")
    tracker.figure(run, Figure(), "figures/a.png")
    names = {file.path for file in tracker.client.list_artifacts(run)}
    assert names == {"noise.bin", "folder", "a.json", "a.txt", "figures"}
    database = Path(tracker.uri.removeprefix("sqlite:///"))
    artifact_uri = tracker.client.get_run(run).info.artifact_uri
    assert artifact_uri is not None and artifact_uri.startswith((database.parent / "artifacts").as_uri())


def test_threads_share_one_tracker(tracker: Tracker) -> None:
    parent = begin(tracker)

    def branch(name: str) -> None:
        shared = tracker.begin_stage(parent, stage="kernel", branch="shared", fingerprint="f", params={})
        for step in range(10):
            tracker.metrics(shared, {"loss": step / 3}, step)
        for _ in range(2):  # the second time as after a resume: nothing may double
            stage = tracker.begin_stage(parent, stage="search", branch=name, fingerprint="f", params={"p": name})
            for step in range(10):
                tracker.metrics(stage, {"loss": step / 3}, step)
                tracker.metrics(parent, {f"{name}.loss": step / 3}, step)
                tracker.tags(parent, {"last": name})
            tracker.text_artifact(stage, name, "name.txt")
            tracker.end(stage, "FINISHED")

    names = [f"vit{i}" for i in range(6)]
    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(branch, names))
    found = tracker.client.search_runs([tracker.experiment_id])
    children = {run.data.tags["nullspace.branch"]: run for run in found if run.info.run_id != parent}
    assert len(found) == 2 + len(names) and set(children) == {*names, "shared"}
    assert history(tracker, children.pop("shared").info.run_id, "loss") == [(step, step / 3) for step in range(10)]
    for name, run in children.items():
        assert (run.info.status, run.data.params) == ("FINISHED", {"p": name})
        assert history(tracker, run.info.run_id, "loss") == [(step, step / 3) for step in range(10)]
        assert history(tracker, parent, f"{name}.loss") == [(step, step / 3) for step in range(10)]


def test_credentials_never_reach_the_store(tracker: Tracker) -> None:
    run = begin(tracker, store="http://me:secret@host:5000/x", nested={"s3": ["s3://key:secret@bucket/y"]})
    tracker.tags(run, {"uri": "postgresql://me:secret@db/mlflow"})
    data = tracker.client.get_run(run).data
    assert "secret" not in json.dumps({**data.params, **data.tags})
    assert data.params["store"] == "http://***@host:5000/x"
