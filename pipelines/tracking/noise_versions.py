"""Models in MLflow: the ViT as the model a noise points to, the noise as a registered version people load by name.

Written with explicit ids only; `mlflow.pyfunc.log_model` would go through the process-global active run.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import numpy as np
from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelInput, LoggedModelOutput, LoggedModelStatus
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema, TensorSpec
from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS, MLFLOW_RUN_NOTE
from safetensors import safe_open

from pipelines.redact import flatten, redact
from pipelines.tracking import noise_model
from pipelines.tracking.connection.patience import patiently
from pipelines.tracking.connection.store import TrackingError
from pipelines.tracking.environment import installed_version
from pipelines.tracking.tracker import Tracker

CHAMPION = "champion"
WEIGHTS_HASH = "nullspace.weights_sha256"
NOISE_HASH = "nullspace.noise_sha256"
LOGGED_MODEL = "nullspace.logged_model"
REQUIREMENTS = ("torch", "timm", "numpy", "scipy", "pandas", "safetensors", "nullspace-vit")


@dataclass(frozen=True)
class VitToRecord:
    """A ViT as it is recorded: name, source and hash say which weights it has; the weights are not stored."""

    name: str
    weights_source: str
    weights_sha256: str
    preprocessing: Mapping[str, Any]
    num_classes: int
    model_args: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Further parameters: patch size, embedding dimension, …"""

    @property
    def tags(self) -> dict[str, str]:
        """What tells it from other models of the experiment."""
        tags = {WEIGHTS_HASH: self.weights_sha256, "nullspace.kind": "vit", "nullspace.model": self.name}
        given = {"nullspace.model_args": json.dumps(self.model_args, sort_keys=True)} if self.model_args else {}
        return {**tags, **given}

    @property
    def params(self) -> dict[str, str]:
        """Parameters of the logged model."""
        content = {
            "name": self.name,
            "weights_source": redact(self.weights_source),
            "weights_sha256": self.weights_sha256,
            "preprocessing": dict(self.preprocessing),
            "num_classes": self.num_classes,
            **({"model_args": dict(self.model_args)} if self.model_args else {}),
            **self.facts,
        }
        return flatten(content)


@dataclass(frozen=True)
class NoiseToRegister:
    """A noise file, the ViT it belongs to, and what its pages say of it."""

    registered_name: str
    noise_path: Path
    vit_model_id: str
    input_size: Sequence[int]
    """(H, W) of the model's images."""
    weights_path: Path | None = None
    """safetensors of the ViT, packed into the model when `weights` cannot bring them back."""
    config_path: Path | None = None
    """config.json of a ViT that timm knows by its folder alone; packed, too."""
    weights: str = "pretrained"
    """How the loaded model gets its weights without `weights_path`: "pretrained" or "random" (with `seed`)."""
    seed: int = 0
    model_args: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments the model was made with."""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    """Finite summaries shown on the logged model and on the run."""
    tags: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    """How the noise was found; parameters of the logged model."""
    description: str = ""
    """Markdown on the pages of the version and of the logged model."""

    def check(self) -> None:
        """Raise TrackingError for names that MLflow cannot keep."""
        if not self.registered_name.strip() or re.search(r"[/:']", self.registered_name):
            raise TrackingError(
                f"expected a registered model name without / : or ', got {self.registered_name!r}; rename it"
            )
        # MLflow keeps both in one folder.
        if self.weights_path is not None and self.weights_path.name == self.noise_path.name:
            raise TrackingError(
                f"expected noise and weights files of different names, got {self.noise_path.name!r} twice; rename one"
            )

    @property
    def identity(self) -> dict[str, str]:
        """Tags by which the same noise is found again."""
        return {
            NOISE_HASH: _digest(self.noise_path),
            "nullspace.kind": "null-noise",
            "nullspace.vit": self.vit_model_id,
        }

    @property
    def packed(self) -> dict[str, Path]:
        """The files stored with the model."""
        files = {"noise": self.noise_path, "weights": self.weights_path, "config": self.config_path}
        return {name: path for name, path in files.items() if path is not None}

    @property
    def config(self) -> dict[str, Any]:
        """What the loaded model reads first."""
        given = {"weights": self.weights, "seed": self.seed, "model_args": dict(self.model_args)}
        return {**given, **noise_model.DEFAULTS}


@patiently
def record_vit(tracker: Tracker, run_id: str, vit: VitToRecord) -> str:
    """Record a ViT as a logged model and as an input of the run; returns the logged model's id.

    The same weights and `model_args` in the same experiment are recorded once.
    """
    model = _find_model(tracker, vit.tags)
    if model is None:
        model = tracker.client.create_logged_model(
            tracker.experiment_id, _model_name(vit.name), run_id, vit.tags, vit.params, model_type="vit"
        )
    if model.status != LoggedModelStatus.READY:
        _upload_json(tracker.client, model, "vit.json")
    _link_input(tracker.client, run_id, model.model_id)
    return model.model_id


@patiently
def register_noise(tracker: Tracker, run_id: str, noise: NoiseToRegister) -> str:
    """Register a noise file as a version of its registered model, with alias `champion`; returns the version.

    The same noise is registered once, so a resumed pipeline gets the version it made before.
    """
    noise.check()
    identity, name = noise.identity, noise.registered_name
    version = _find_version(tracker.client, name, identity)
    if version is None:
        model = _find_model(tracker, identity) or tracker.client.create_logged_model(
            tracker.experiment_id,
            _model_name(name),
            run_id,
            {**identity, MLFLOW_RUN_NOTE: noise.description},
            flatten(noise.settings),
            model_type="null-noise",
        )
        if model.status != LoggedModelStatus.READY:
            _upload_pyfunc(tracker.client, model, run_id, noise)
        _link_output(tracker.client, run_id, model.model_id)
        tracker.metrics(run_id, noise.metrics, model_id=model.model_id)
        marks = {**flatten(noise.tags), **identity}
        version = _create_version(tracker.client, name, model, run_id, marks, noise.description)
    else:  # made by another run, or by this one before it was stopped: this run leads to it, too
        _link_output(tracker.client, run_id, version.tags[LOGGED_MODEL])
    tracker.client.set_registered_model_alias(name, CHAMPION, version.version)
    return str(version.version)


def _digest(noise: Path) -> str:
    # The file's own, over what it holds: safetensors writes its header in another order each time.
    with safe_open(noise, "np") as opened:
        written = (opened.metadata() or {}).get("sha256")
    return written or hashlib.sha256(noise.read_bytes()).hexdigest()


def pip_requirements() -> list[str]:
    """What a loaded noise model needs, pinned to the versions installed here."""
    return [_requirement(name) for name in REQUIREMENTS]


def _requirement(name: str) -> str:
    version = installed_version(name)
    # "+cu130" names a build that the package index does not have.
    return name if version is None else f"{name}=={version.partition('+')[0]}"


def _upload_pyfunc(client: MlflowClient, model: LoggedModel, run_id: str, noise: NoiseToRegister) -> None:
    height, width = noise.input_size
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "model")
        mlflow.pyfunc.save_model(
            str(target),
            python_model=noise_model.__file__,  # models from code: the file itself is stored, no pickle
            artifacts={name: str(path) for name, path in noise.packed.items()},
            model_config=noise.config,
            signature=_signature(height, width),
            input_example=(np.zeros((1, height, width, 3), np.uint8), {"scale": 1.0}),
            pip_requirements=pip_requirements(),
            mlflow_model=Model(run_id=run_id, model_uuid=model.model_id, model_id=model.model_id),
        )
        client.log_model_artifacts(model.model_id, str(target))
    client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)


def _signature(height: int, width: int) -> ModelSignature:
    kinds = ("long", "long", "float", "float", "boolean")
    return ModelSignature(
        inputs=Schema([TensorSpec(np.dtype(np.uint8), (-1, height, width, 3))]),
        outputs=Schema([ColSpec(kind, name) for kind, name in zip(kinds, noise_model.COLUMNS, strict=True)]),
        params=ParamSchema([ParamSpec("scale", "double", 1.0)]),
    )


def _upload_json(client: MlflowClient, model: LoggedModel, file: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, file)
        path.write_text(json.dumps({**model.params, "tags": model.tags}, indent=2, sort_keys=True))
        client.log_model_artifact(model.model_id, str(path))
    client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)


def _find_model(tracker: Tracker, tags: Mapping[str, str]) -> LoggedModel | None:
    wanted = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
    found = tracker.client.search_logged_models([tracker.experiment_id], wanted)
    # One left PENDING by a kill is taken up and finished; FAILED ones are not to be trusted.
    usable = [model for model in found if model.status != LoggedModelStatus.FAILED]
    return max(usable, key=lambda model: model.status == LoggedModelStatus.READY, default=None)


def _find_version(client: MlflowClient, name: str, tags: Mapping[str, str]) -> ModelVersion | None:
    # Tags are compared here: servers differ in the tag filters they accept for versions.
    found = client.search_model_versions(f"name = '{name}'")
    same = [version for version in found if tags.items() <= dict(version.tags or {}).items()]
    return max(same, key=lambda version: int(version.version), default=None)


def _create_version(
    client: MlflowClient, name: str, model: LoggedModel, run_id: str, tags: Mapping[str, str], description: str
) -> ModelVersion:
    try:
        client.create_registered_model(name, description="Null noise of a Vision Transformer, loadable as a pyfunc.")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    # Not "models:/<id>": without a server MLflow looks that up in the process-global store, not in this client's.
    marks = {**tags, LOGGED_MODEL: model.model_id}  # as a tag too: only some registries keep `model_id`
    version = client.create_model_version(
        name, model.artifact_location, run_id, marks, description=description or None, model_id=model.model_id
    )
    # A server does this by itself; it makes the logged model's page lead to the version.
    known = json.loads(model.tags.get(MLFLOW_MODEL_VERSIONS, "[]"))
    mark = {"name": name, "version": str(version.version)}
    client.set_logged_model_tags(model.model_id, {MLFLOW_MODEL_VERSIONS: json.dumps([mark, *known])})
    return version


def _link_input(client: MlflowClient, run_id: str, model_id: str) -> None:
    inputs = client.get_run(run_id).inputs
    if model_id not in {model.model_id for model in (inputs.model_inputs if inputs else [])}:
        client.log_inputs(run_id, models=[LoggedModelInput(model_id)])


def _link_output(client: MlflowClient, run_id: str, model_id: str) -> None:
    outputs = client.get_run(run_id).outputs
    if model_id not in {model.model_id for model in (outputs.model_outputs if outputs else [])}:
        client.log_outputs(run_id, [LoggedModelOutput(model_id, step=0)])


def _model_name(name: str) -> str:
    """A name MLflow takes for a logged model: timm's dots and slashes become underscores."""
    return re.sub(r"[/:.%\"']", "_", name)
