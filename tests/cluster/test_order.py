"""The order of a job: which files are uploaded and which are not, under what name, with what environment."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from cluster.errors import JobError, UploadError
from cluster.order import CONFIG, Order, make_order
from pipelines.configs.reading import load_config
from pipelines.errors import ConfigError

WORK = "/shared/runs/demo"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, and no tracking server from outside."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


def order(*overrides: str, workdir: str | None = WORK, folder: Path | None = None) -> Order:
    return make_order("demo", list(overrides), workdir=workdir, folder=folder)


def config_of(made: Order) -> dict:
    content = made.upload.files[CONFIG]
    assert isinstance(content, bytes)
    return yaml.safe_load(content)


def test_the_config_goes_along_with_what_was_set_and_nothing_else() -> None:
    made = order("search.trials=3")
    assert set(made.upload.files) == {CONFIG}
    assert config_of(made) == load_config("demo", ["search.trials=3"]).model_dump(mode="json")
    assert made.entrypoint == f"exec nullspace run {CONFIG} --workdir {WORK}"


def test_the_name_follows_the_config_and_not_how_it_is_worked_on() -> None:
    fingerprint = load_config("demo").fingerprint()
    assert order().name == f"nullspace-demo-{fingerprint[:8]}" == order("resources.workers=2").name
    assert order("seed=1").name != order().name


def test_a_work_folder_with_blanks_stays_one_word() -> None:
    assert order(workdir="/shared/my runs/a;b").entrypoint.endswith("--workdir '/shared/my runs/a;b'")


@pytest.mark.parametrize("workdir", [None, "runs/demo", "~/runs", "s3://bucket/runs", ""])
def test_a_work_folder_that_not_every_node_has(workdir: str | None) -> None:
    with pytest.raises(JobError, match=r"expected --workdir with an absolute path, got .* e\.g\. --workdir /shared/"):
        order(workdir=workdir)


def test_relative_files_go_along_and_absolute_ones_are_the_clusters(here: Path) -> None:
    (here / "weights").mkdir()
    for name in ("weights/own.pth", "logo.png", "labels.csv"):
        (here / name).write_text(name)
    made = order("models.0.weights=weights/own.pth", "visible_watermark.logo=./logo.png")
    assert set(made.upload.files) == {CONFIG, "weights/own.pth", "logo.png"}
    assert config_of(made)["visible_watermark"]["logo"] == "logo.png"
    made = order("models.0.weights=/shared/deit.pth", "source={path: 's3://b/images', labels: labels.csv}")
    assert set(made.upload.files) == {CONFIG, "labels.csv"}
    assert made.on_cluster == {"models.0.weights": "/shared/deit.pth", "source.path": "s3://b/images"}


def test_files_from_outside_the_current_folder_get_a_place_in_the_jobs(here: Path, monkeypatch) -> None:
    (here / "below").mkdir()
    (here / "own.pth").write_text("")
    monkeypatch.chdir(here / "below")
    made = order("models.0.weights=../own.pth")
    assert set(made.upload.files) == {CONFIG, "uploaded/own.pth"}
    assert config_of(made)["models"][0]["weights"] == "uploaded/own.pth"
    monkeypatch.setenv("HOME", str(here))
    assert order("models.0.weights=~/own.pth").upload.files["uploaded/own.pth"] == here / "own.pth"


def test_two_files_never_become_one(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        (here / name).mkdir()
        (here / name / "w.pth").write_text(name)
    (here / "below").mkdir()
    two = "models=[{name: x, weights: ../a/w.pth, label: x}, {name: y, weights: ../b/w.pth, label: y}]"
    monkeypatch.chdir(here / "below")
    with pytest.raises(UploadError, match="two files would be uploaded/w.pth"):
        order(two)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("models.0.weights=nowhere.pth", r"models\.0\.weights: there is no file .*nowhere\.pth to upload"),
        ("source={path: images}", r"source\.path is 'images', and images are not uploaded: expected an absolute path"),
    ],
)
def test_what_would_not_be_there(override: str, message: str) -> None:
    with pytest.raises(UploadError, match=message):
        order(override)


def test_a_folder_goes_along_whole_and_paths_are_those_in_it(here: Path) -> None:
    folder = here / "job"
    (folder / "images").mkdir(parents=True)
    for name in ("own.pth", "images/1.png", "notes.txt"):
        (folder / name).write_text(name)
    (folder / ".nullspaceignore").write_text("notes.txt\n")
    made = order("models.0.weights=own.pth", "source={path: images}", folder=folder)
    assert set(made.upload.files) == {CONFIG, "own.pth", "images/1.png"}
    assert config_of(made)["models"][0]["weights"] == "own.pth"
    with pytest.raises(UploadError, match="models.0.weights is 'notes.txt', which is not among the files"):
        order("models.0.weights=notes.txt", folder=folder)
    (folder / CONFIG).write_text("")
    with pytest.raises(UploadError, match="rename yours"):
        order(folder=folder)


def test_a_tracking_server_is_passed_on_and_a_password_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hunter2")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    made = order()
    assert made.env == {"RAY_JOB_STOP_WAIT_TIME_S": "300", "MLFLOW_TRACKING_URI": "http://mlflow:5000"}
    assert "hunter2" not in str(made.to_dict())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:hunter2@mlflow")
    with pytest.raises(JobError, match="holds credentials") as refused:
        order()
    assert "hunter2" not in str(refused.value)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    with pytest.raises(JobError, match="a different file on every machine"):
        order()


def test_a_wrong_config_is_reported_first() -> None:
    with pytest.raises(ConfigError, match="did you mean 'search'"):
        order("serch.trials=1", workdir=None)


def test_a_model_in_a_folder_is_uploaded_with_what_timm_reads(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "models" / "mine").mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "optimizer.bin"):
        (here / "models" / "mine" / name).write_text(name)
    made = order("models.0.name=local-dir:models/mine", "models.0.label=m")
    assert set(made.upload.files) == {CONFIG, "models/mine/config.json", "models/mine/model.safetensors"}
    assert config_of(made)["models"][0]["name"] == "local-dir:models/mine"
    (here / "below").mkdir()
    (here / "own.pth").write_text("")
    monkeypatch.chdir(here / "below")
    made = order("models.0.name=local-dir:../models/mine", "models.0.weights=../own.pth")
    assert set(made.upload.files) == {CONFIG, "uploaded/mine/config.json", "uploaded/own.pth"}
    assert config_of(made)["models"][0]["name"] == "local-dir:uploaded/mine"
    made = order("models.0.name=local-dir:/shared/mine")
    assert made.on_cluster == {"models.0.name": "/shared/mine"} and set(made.upload.files) == {CONFIG}
    with pytest.raises(UploadError, match=r"models\.0\.name: there is no file .*nowhere/config\.json to upload"):
        order("models.0.name=local-dir:nowhere")
    made = order("models.0.name=local-dir:models/mine", folder=here)
    assert config_of(made)["models"][0]["name"] == "local-dir:models/mine"
    with pytest.raises(UploadError, match=r"models\.0\.name is 'models/other', which is not among the files"):
        order("models.0.name=local-dir:models/other", folder=here)
