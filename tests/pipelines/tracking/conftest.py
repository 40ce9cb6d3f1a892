"""A store of MLflow for each file of tests, in it an experiment for each test, and one in which noise is registered."""

from __future__ import annotations

from pathlib import Path

import pytest

from nullspace.model.vit import SplitViT
from pipelines.digits import MODEL_NAME, register
from pipelines.tracking.tracker import Tracker
from tests.pipelines.tracking.noise_files import register_file, save_noise


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One database for the module: making the tables costs seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}"


@pytest.fixture
def tracker(uri: str, request: pytest.FixtureRequest) -> Tracker:
    return Tracker(uri, request.node.name)


@pytest.fixture(scope="module")
def vit() -> SplitViT:
    register()
    return SplitViT.load(MODEL_NAME)


@pytest.fixture(scope="module")
def noise(vit: SplitViT, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_noise(vit, tmp_path_factory.mktemp("noise") / "noise.safetensors", seed=0)


@pytest.fixture(scope="module")
def registry(uri: str) -> Tracker:
    return Tracker(uri, "registry")


@pytest.fixture(scope="module")
def run(registry: Tracker) -> str:
    """The run that noise is registered by."""
    return registry.begin_run("key", name="run", tags={}, params={})


@pytest.fixture(scope="module")
def version(registry: Tracker, run: str, vit: SplitViT, noise: Path) -> str:
    return register_file(registry, run, vit, noise)
