"""Noise registered in a real MLflow store; resumed without doubles."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch

from nullspace.model.vit import SplitViT
from pipelines.digits import MODEL_NAME
from pipelines.digits.model import weights_path
from pipelines.tracking.connection.store import TrackingError
from pipelines.tracking.noise_versions import LOGGED_MODEL, pip_requirements
from pipelines.tracking.tracker import Tracker
from tests.pipelines.tracking.noise_files import NAME, record, register_file, save_noise


def test_the_vit_is_recorded_once_and_linked_to_the_run(registry: Tracker, run: str, vit: SplitViT) -> None:
    first = record(registry, run, vit)
    assert record(registry, run, vit) == first
    model = registry.client.get_logged_model(first)
    assert model.status == "READY"
    assert model.params["weights_sha256"] == vit.weights_sha256
    assert model.params["embed_dim"] == "96"
    assert model.params["preprocessing.input_size"] == "[64, 64]"
    inputs = registry.client.get_run(run).inputs
    assert inputs and [item.model_id for item in inputs.model_inputs] == [first]


def test_other_weights_are_another_model(registry: Tracker, run: str, vit: SplitViT) -> None:
    other = SplitViT.load(MODEL_NAME, weights="random")
    child = registry.begin_stage(run, stage="reference", branch="x", fingerprint="f", params={})
    assert record(registry, child, other) != record(registry, run, vit)


def test_version_alias_tags_and_lineage(registry: Tracker, run: str, vit: SplitViT, version: str) -> None:
    champion = registry.client.get_model_version_by_alias(NAME, "champion")
    assert str(champion.version) == version and champion.run_id == run
    assert champion.tags["nullspace.vit"] == record(registry, run, vit)
    outputs = registry.client.get_run(run).outputs
    assert outputs and [item.model_id for item in outputs.model_outputs] == [champion.tags[LOGGED_MODEL]]
    assert registry.client.get_run(run).data.metrics["agreement"] == 0.9
    model = registry.client.get_logged_model(champion.tags[LOGGED_MODEL])
    assert json.loads(model.tags["mlflow.modelVersions"]) == [{"name": NAME, "version": version}]
    assert model.tags["mlflow.note.content"] == champion.description == "Small noise."
    assert model.params == {"learning_rate": "0.1"}
    assert [(metric.key, metric.value) for metric in model.metrics or []] == [("agreement", 0.9)]


def test_registering_again_gives_the_same_version(
    registry: Tracker, run: str, vit: SplitViT, noise: Path, version: str
) -> None:
    later = Tracker(registry.uri, registry.experiment)
    assert register_file(later, run, vit, noise) == version
    assert len(later.client.search_model_versions(f"name = '{NAME}'")) == 1
    outputs = later.client.get_run(run).outputs
    assert outputs and len(outputs.model_outputs) == 1


def test_a_registration_killed_halfway_is_finished(
    registry: Tracker, run: str, vit: SplitViT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_noise(vit, tmp_path / "noise.safetensors", seed=7)
    with monkeypatch.context() as patch:
        patch.setattr(registry.client, "finalize_logged_model", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            register_file(registry, run, vit, path, registered_name="halfway")
    assert register_file(registry, run, vit, path, registered_name="halfway") == "1"
    found = registry.client.search_logged_models([registry.experiment_id], "name = 'halfway'")
    assert [model.status for model in found] == ["READY"]


def test_new_noise_becomes_the_champion_without_packed_weights(
    registry: Tracker, run: str, vit: SplitViT, tmp_path: Path
) -> None:
    path = save_noise(vit, tmp_path / "noise.safetensors", seed=3)
    version = register_file(registry, run, vit, path, weights_path=None, registered_name="light")
    target = registry.client.get_model_version_by_alias("light", "champion")
    assert str(target.version) == version
    files = Path(registry.client.get_logged_model(target.tags[LOGGED_MODEL]).artifact_location.removeprefix("file://"))
    assert {file.name for file in (files / "artifacts").iterdir()} == {"noise.safetensors"}
    assert not list(files.rglob("*.pkl")), "nothing is pickled"
    assert mlflow.pyfunc.load_model(str(files)).predict(np.zeros((1, 64, 64, 3), np.uint8)).shape == (1, 5)


def test_requirements_name_installed_versions() -> None:
    assert f"torch=={torch.__version__.partition('+')[0]}" in pip_requirements()
    assert any(line.startswith("nullspace-vit") for line in pip_requirements())


@pytest.mark.parametrize("name", ["a/b", "a:b", " ", "it's"])
def test_impossible_names_are_refused(registry: Tracker, run: str, vit: SplitViT, noise: Path, name: str) -> None:
    with pytest.raises(TrackingError, match="expected a registered model name"):
        register_file(registry, run, vit, noise, registered_name=name)


def test_files_of_one_name_are_refused(registry: Tracker, run: str, vit: SplitViT, noise: Path, tmp_path: Path) -> None:
    same = Path(shutil.copy(weights_path(), tmp_path / noise.name))
    with pytest.raises(TrackingError, match="different names"):
        register_file(registry, run, vit, noise, weights_path=same)
