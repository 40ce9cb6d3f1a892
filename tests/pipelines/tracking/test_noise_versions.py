"""Noise registered in a real MLflow store, loaded by name and applied; resumed without doubles."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import timm
import torch
from mlflow.exceptions import MlflowException
from timm.models import save_for_hf

from nullspace.errors import ArtifactError, ImageRangeError
from nullspace.model.vit import SplitViT
from nullspace.noise.artifact import NullNoise
from pipelines.digits import MODEL_NAME, register
from pipelines.digits.model import weights_path
from pipelines.engine.models import learn_facts
from pipelines.engine.settings import ModelSettings
from pipelines.tracking.connection.store import TrackingError
from pipelines.tracking.noise_model import COLUMNS, NoiseModel
from pipelines.tracking.noise_versions import (
    LOGGED_MODEL,
    NoiseToRegister,
    VitToRecord,
    pip_requirements,
    record_vit,
    register_noise,
)
from pipelines.tracking.tracker import Tracker
from pipelines.workflow.publishing import _packed_weights

NAME = "digits-noise"


@pytest.fixture(scope="module")
def vit() -> SplitViT:
    register()
    return SplitViT.load(MODEL_NAME)


@pytest.fixture(scope="module")
def tracker(tmp_path_factory: pytest.TempPathFactory) -> Tracker:
    return Tracker(f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}", "registry")


@pytest.fixture(scope="module")
def run(tracker: Tracker) -> str:
    return tracker.begin_run("key", name="run", tags={}, params={})


@pytest.fixture(scope="module")
def noise(vit: SplitViT, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_noise(vit, tmp_path_factory.mktemp("noise") / "noise.safetensors", seed=0)


def save_noise(vit: SplitViT, path: Path, seed: int, weights_sha256: str | None = None) -> Path:
    tensor = torch.randn(vit.num_patches, vit.embed_dim, generator=torch.Generator().manual_seed(seed))
    NullNoise(
        tensor=tensor,
        model_name=vit.name,
        weights_sha256=weights_sha256 or vit.weights_sha256,
        norm=float(tensor.norm()),
        effective_norm=float(tensor.norm()),
        relative_norm=0.5,
        spread=1.0,
        token_norm=1.0,
        shift_invariant=True,
        objective="logits",
        seed=seed,
        data_fingerprint="none",
    ).save(path)
    return path


def record(tracker: Tracker, run: str, vit: SplitViT) -> str:
    recorded = VitToRecord(
        name=vit.name,
        weights_source=vit.weights_source,
        weights_sha256=vit.weights_sha256,
        preprocessing=vit.preprocessing.to_dict(),
        num_classes=vit.num_classes,
        facts={"embed_dim": vit.embed_dim},
    )
    return record_vit(tracker, run, recorded)


def register_file(tracker: Tracker, run: str, vit: SplitViT, path: Path, **changes: Any) -> str:
    given: dict[str, Any] = {
        "noise_path": path,
        "weights_path": weights_path(),
        "vit_model_id": record(tracker, run, vit),
        "registered_name": NAME,
        "input_size": vit.preprocessing.input_size,
        "metrics": {"agreement": 0.9},
        "tags": {"nullspace.fingerprint": "f1"},
        "settings": {"learning_rate": 0.1},
        "description": "Small noise.",
    }
    return register_noise(tracker, run, NoiseToRegister(**{**given, **changes}))


@pytest.fixture(scope="module")
def version(tracker: Tracker, run: str, vit: SplitViT, noise: Path) -> str:
    return register_file(tracker, run, vit, noise)


@pytest.fixture(scope="module")
def loaded(tracker: Tracker, version: str) -> Any:
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(tracker.uri)  # what a user does who loads by name
    try:
        return mlflow.pyfunc.load_model(f"models:/{NAME}@champion", model_config={"device": "cpu", "batch_size": 4})
    finally:
        mlflow.set_tracking_uri(before)


def test_settings_given_while_loading_are_used(loaded: Any) -> None:
    assert loaded.unwrap_python_model().batch_size == 4
    assert loaded.model_config["device"] == "cpu"


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (10, 64, 64, 3), dtype=np.uint8)


def test_the_vit_is_recorded_once_and_linked_to_the_run(tracker: Tracker, run: str, vit: SplitViT) -> None:
    first = record(tracker, run, vit)
    assert record(tracker, run, vit) == first
    model = tracker.client.get_logged_model(first)
    assert model.status == "READY"
    assert model.params["weights_sha256"] == vit.weights_sha256
    assert model.params["embed_dim"] == "96"
    assert model.params["preprocessing.input_size"] == "[64, 64]"
    inputs = tracker.client.get_run(run).inputs
    assert inputs and [item.model_id for item in inputs.model_inputs] == [first]


def test_other_weights_are_another_model(tracker: Tracker, run: str, vit: SplitViT) -> None:
    other = SplitViT.load(MODEL_NAME, weights="random")
    child = tracker.begin_stage(run, stage="reference", branch="x", fingerprint="f", params={})
    assert record(tracker, child, other) != record(tracker, run, vit)


def test_version_alias_tags_and_lineage(tracker: Tracker, run: str, vit: SplitViT, version: str) -> None:
    champion = tracker.client.get_model_version_by_alias(NAME, "champion")
    assert str(champion.version) == version and champion.run_id == run
    assert champion.tags["nullspace.vit"] == record(tracker, run, vit)
    outputs = tracker.client.get_run(run).outputs
    assert outputs and [item.model_id for item in outputs.model_outputs] == [champion.tags[LOGGED_MODEL]]
    assert tracker.client.get_run(run).data.metrics["agreement"] == 0.9
    model = tracker.client.get_logged_model(champion.tags[LOGGED_MODEL])
    assert json.loads(model.tags["mlflow.modelVersions"]) == [{"name": NAME, "version": version}]
    assert model.tags["mlflow.note.content"] == champion.description == "Small noise."
    assert model.params == {"learning_rate": "0.1"}
    assert [(metric.key, metric.value) for metric in model.metrics or []] == [("agreement", 0.9)]


def test_registering_again_gives_the_same_version(
    tracker: Tracker, run: str, vit: SplitViT, noise: Path, version: str
) -> None:
    later = Tracker(tracker.uri, tracker.experiment)
    assert register_file(later, run, vit, noise) == version
    assert len(later.client.search_model_versions(f"name = '{NAME}'")) == 1
    outputs = later.client.get_run(run).outputs
    assert outputs and len(outputs.model_outputs) == 1


def test_a_registration_killed_halfway_is_finished(
    tracker: Tracker, run: str, vit: SplitViT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_noise(vit, tmp_path / "noise.safetensors", seed=7)
    with monkeypatch.context() as patch:
        patch.setattr(tracker.client, "finalize_logged_model", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            register_file(tracker, run, vit, path, registered_name="halfway")
    assert register_file(tracker, run, vit, path, registered_name="halfway") == "1"
    found = tracker.client.search_logged_models([tracker.experiment_id], "name = 'halfway'")
    assert [model.status for model in found] == ["READY"]


def test_loaded_by_name_it_predicts_what_the_tensors_say(
    loaded: Any, vit: SplitViT, noise: Path, images: np.ndarray
) -> None:
    frame = loaded.predict(images)
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    with NullNoise.load(noise).apply(vit):
        noised = vit(pixels).softmax(-1).max(-1)
    clean = vit(pixels).softmax(-1).max(-1)
    assert tuple(frame.columns) == COLUMNS and len(frame) == 10
    assert frame.clean_prediction.tolist() == clean.indices.tolist()
    assert frame.noised_prediction.tolist() == noised.indices.tolist()
    np.testing.assert_allclose(frame.clean_confidence, clean.values, atol=1e-5)
    np.testing.assert_allclose(frame.noised_confidence, noised.values, atol=1e-5)
    assert frame.agree.tolist() == (clean.indices == noised.indices).tolist()


def test_scale_zero_changes_nothing_and_large_scale_something(loaded: Any, images: np.ndarray) -> None:
    none = loaded.predict(images, params={"scale": 0.0})
    assert none.agree.all()
    np.testing.assert_allclose(none.clean_confidence, none.noised_confidence, atol=1e-6)
    assert not loaded.predict(images, params={"scale": 100.0}).agree.all()


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((2, 64, 64, 3), np.float32), np.zeros((2, 3, 64, 64), np.uint8), np.zeros((2, 16, 16, 3), np.uint8)],
    ids=["float", "channels first", "other size"],
)
def test_wrong_images_are_refused_by_the_signature(loaded: Any, wrong: np.ndarray) -> None:
    with pytest.raises(MlflowException, match="schema|shape|convert"):
        loaded.predict(wrong)


def test_images_are_checked_without_mlflow_too(loaded: Any) -> None:
    model = loaded.unwrap_python_model()
    assert type(model).__name__ == NoiseModel.__name__
    for wrong in (np.zeros((2, 64, 64, 3), np.float32), np.zeros((0, 64, 64, 3), np.uint8), [[1]]):
        with pytest.raises(ImageRangeError, match=r"expected a uint8 NumPy array \(B,64,64,3\)"):
            model.predict(None, wrong)


def test_new_noise_becomes_the_champion_without_packed_weights(
    tracker: Tracker, run: str, vit: SplitViT, tmp_path: Path
) -> None:
    path = save_noise(vit, tmp_path / "noise.safetensors", seed=3)
    version = register_file(tracker, run, vit, path, weights_path=None, registered_name="light")
    target = tracker.client.get_model_version_by_alias("light", "champion")
    assert str(target.version) == version
    files = Path(tracker.client.get_logged_model(target.tags[LOGGED_MODEL]).artifact_location.removeprefix("file://"))
    assert {file.name for file in (files / "artifacts").iterdir()} == {"noise.safetensors"}
    assert not list(files.rglob("*.pkl")), "nothing is pickled"
    assert mlflow.pyfunc.load_model(str(files)).predict(np.zeros((1, 64, 64, 3), np.uint8)).shape == (1, 5)


def test_a_model_made_with_arguments_is_loaded_with_them(tracker: Tracker, run: str, tmp_path: Path) -> None:
    settings = ModelSettings(name=MODEL_NAME, weights="random", args={"img_size": 64, "global_pool": "avg"})
    facts, model = learn_facts(settings, seed=0)
    path = save_noise(model, tmp_path / "noise.safetensors", seed=5)
    changes = {"model_args": facts.spec.args, "registered_name": "larger", "vit_model_id": record(tracker, run, model)}
    register_file(tracker, run, model, path, weights="random", weights_path=None, **changes)
    assert champion(tracker, "larger").predict(np.zeros((1, 64, 64, 3), np.uint8)).shape == (1, 5)
    args = VitToRecord(model.name, "", model.weights_sha256, {}, num_classes=10, model_args=facts.spec.args)
    with_args = record_vit(tracker, run, args)
    assert with_args != changes["vit_model_id"], "equal weights pooled otherwise are another model"
    assert tracker.client.get_logged_model(with_args).params["model_args.img_size"] == "64"


def test_a_model_known_by_its_folder_is_loaded_without_it(tracker: Tracker, run: str, tmp_path: Path) -> None:
    register()
    folder = tmp_path / "mine"
    save_for_hf(timm.create_model(MODEL_NAME, num_classes=7), str(folder), safe_serialization=True)
    facts, model = learn_facts(ModelSettings(name=f"local-dir:{folder}"), seed=0)
    path = save_noise(model, tmp_path / "noise.safetensors", seed=6)
    packed = _packed_weights(facts, tmp_path)
    assert packed is not None
    register_file(
        tracker, run, model, path, weights_path=packed, config_path=folder / "config.json", registered_name="folder"
    )
    shutil.rmtree(folder)
    assert champion(tracker, "folder").predict(np.zeros((1, 64, 64, 3), np.uint8)).shape == (1, 5)


def champion(tracker: Tracker, name: str) -> Any:
    target = tracker.client.get_model_version_by_alias(name, "champion")
    return mlflow.pyfunc.load_model(tracker.client.get_logged_model(target.tags[LOGGED_MODEL]).artifact_location)


def test_noise_of_other_weights_is_refused_at_prediction(
    tracker: Tracker, run: str, vit: SplitViT, tmp_path: Path
) -> None:
    path = save_noise(vit, tmp_path / "noise.safetensors", seed=4, weights_sha256="0" * 64)
    register_file(tracker, run, vit, path, registered_name="foreign")
    target = tracker.client.get_model_version_by_alias("foreign", "champion")
    folder = tracker.client.get_logged_model(target.tags[LOGGED_MODEL]).artifact_location
    with pytest.raises(ArtifactError, match="was made for"):
        mlflow.pyfunc.load_model(folder).predict(np.zeros((1, 64, 64, 3), np.uint8))


def test_requirements_name_installed_versions() -> None:
    assert f"torch=={torch.__version__.partition('+')[0]}" in pip_requirements()
    assert any(line.startswith("nullspace-vit") for line in pip_requirements())


@pytest.mark.parametrize("name", ["a/b", "a:b", " ", "it's"])
def test_impossible_names_are_refused(tracker: Tracker, run: str, vit: SplitViT, noise: Path, name: str) -> None:
    with pytest.raises(TrackingError, match="expected a registered model name"):
        register_file(tracker, run, vit, noise, registered_name=name)


def test_files_of_one_name_are_refused(tracker: Tracker, run: str, vit: SplitViT, noise: Path, tmp_path: Path) -> None:
    same = Path(shutil.copy(weights_path(), tmp_path / noise.name))
    with pytest.raises(TrackingError, match="different names"):
        register_file(tracker, run, vit, noise, weights_path=same)
