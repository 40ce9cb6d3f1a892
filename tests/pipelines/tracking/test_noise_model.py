"""Registered noise, loaded by name and applied: what it predicts, which images and weights it refuses."""

from __future__ import annotations

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
from pipelines.engine.models import learn_facts
from pipelines.engine.settings import ModelSettings
from pipelines.tracking.noise_model import COLUMNS, NoiseModel
from pipelines.tracking.noise_versions import VitToRecord, record_vit
from pipelines.tracking.tracker import Tracker
from pipelines.workflow.publishing import _packed_weights
from tests.pipelines.tracking.noise_files import NAME, champion, record, register_file, save_noise


@pytest.fixture(scope="module")
def loaded(registry: Tracker, version: str) -> Any:
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(registry.uri)  # what a user does who loads by name
    try:
        return mlflow.pyfunc.load_model(f"models:/{NAME}@champion", model_config={"device": "cpu", "batch_size": 4})
    finally:
        mlflow.set_tracking_uri(before)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (10, 64, 64, 3), dtype=np.uint8)


def test_settings_given_while_loading_are_used(loaded: Any) -> None:
    assert loaded.unwrap_python_model().batch_size == 4
    assert loaded.model_config["device"] == "cpu"


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


def test_a_model_made_with_arguments_is_loaded_with_them(registry: Tracker, run: str, tmp_path: Path) -> None:
    settings = ModelSettings(name=MODEL_NAME, weights="random", args={"img_size": 64, "global_pool": "avg"})
    facts, model = learn_facts(settings, seed=0)
    path = save_noise(model, tmp_path / "noise.safetensors", seed=5)
    changes = {"model_args": facts.spec.args, "registered_name": "larger", "vit_model_id": record(registry, run, model)}
    register_file(registry, run, model, path, weights="random", weights_path=None, **changes)
    assert champion(registry, "larger").predict(np.zeros((1, 64, 64, 3), np.uint8)).shape == (1, 5)
    args = VitToRecord(model.name, "", model.weights_sha256, {}, num_classes=10, model_args=facts.spec.args)
    with_args = record_vit(registry, run, args)
    assert with_args != changes["vit_model_id"], "equal weights pooled otherwise are another model"
    assert registry.client.get_logged_model(with_args).params["model_args.img_size"] == "64"


def test_a_model_known_by_its_folder_is_loaded_without_it(registry: Tracker, run: str, tmp_path: Path) -> None:
    register()
    folder = tmp_path / "mine"
    save_for_hf(timm.create_model(MODEL_NAME, num_classes=7), str(folder), safe_serialization=True)
    facts, model = learn_facts(ModelSettings(name=f"local-dir:{folder}"), seed=0)
    path = save_noise(model, tmp_path / "noise.safetensors", seed=6)
    packed = _packed_weights(facts, tmp_path)
    assert packed is not None
    register_file(
        registry, run, model, path, weights_path=packed, config_path=folder / "config.json", registered_name="folder"
    )
    shutil.rmtree(folder)
    assert champion(registry, "folder").predict(np.zeros((1, 64, 64, 3), np.uint8)).shape == (1, 5)


def test_noise_of_other_weights_is_refused_at_prediction(
    registry: Tracker, run: str, vit: SplitViT, tmp_path: Path
) -> None:
    path = save_noise(vit, tmp_path / "noise.safetensors", seed=4, weights_sha256="0" * 64)
    register_file(registry, run, vit, path, registered_name="foreign")
    with pytest.raises(ArtifactError, match="was made for"):
        champion(registry, "foreign").predict(np.zeros((1, 64, 64, 3), np.uint8))
