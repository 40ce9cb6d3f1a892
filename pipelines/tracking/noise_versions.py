"""Models in MLflow: the ViT as the model a noise points to, the noise as a registered version people load by name.

Written with explicit ids only; `mlflow.pyfunc.log_model` would go through the process-global active run.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Mapping, Sequence
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


@patiently
def record_vit(
    tracker: Tracker,
    run_id: str,
    *,
    name: str,
    weights_source: str,
    weights_sha256: str,
    preprocessing: Mapping[str, Any],
    num_classes: int,
    model_args: Mapping[str, Any] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> str:
    """Record a ViT as a logged model and as an input of the run; returns the logged model's id.

    The same weights and `model_args` in the same experiment are recorded once. Weights themselves are not stored: name,
    source and hash say which they are. `facts` are further parameters (patch size, embedding dimension, …).
    """
    tags = {WEIGHTS_HASH: weights_sha256, "nullspace.kind": "vit", "nullspace.model": name}
    if model_args:
        tags["nullspace.model_args"] = json.dumps(model_args, sort_keys=True)
    model = _find_model(tracker, tags)
    if model is None:
        content = {
            "name": name,
            "weights_source": redact(weights_source),
            "weights_sha256": weights_sha256,
            "preprocessing": dict(preprocessing),
            "num_classes": num_classes,
            **({"model_args": dict(model_args)} if model_args else {}),
            **(facts or {}),
        }
        model = tracker.client.create_logged_model(
            tracker.experiment_id, _model_name(name), run_id, tags, flatten(content), model_type="vit"
        )
    if model.status != LoggedModelStatus.READY:
        _upload_json(tracker.client, model, "vit.json")
    _link_input(tracker.client, run_id, model.model_id)
    return model.model_id


@patiently
def register_noise(
    tracker: Tracker,
    run_id: str,
    *,
    noise_path: Path,
    weights_path: Path | None,
    config_path: Path | None = None,
    vit_model_id: str,
    registered_name: str,
    input_size: Sequence[int],
    metrics: Mapping[str, Any],
    tags: Mapping[str, Any],
    weights: str = "pretrained",
    seed: int = 0,
    model_args: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    description: str = "",
) -> str:
    """Register a noise file as a version of `registered_name` with alias `champion`; returns the version.

    Args:
        weights_path: safetensors of the ViT, packed into the model when `weights` cannot bring them back.
        config_path: config.json of a ViT that timm knows by its folder alone; packed, too.
        input_size: (H, W) of the model's images.
        metrics: finite summaries shown on the logged model and on the run.
        weights: how the loaded model gets its weights without `weights_path`: "pretrained" or "random" (with `seed`).
        model_args: further arguments the model was made with.
        settings: how the noise was found; parameters of the logged model.
        description: Markdown on the pages of the version and of the logged model.

    The same noise is registered once, so a resumed pipeline gets the version it made before.
    """
    _check_names(registered_name, noise_path, weights_path)
    identity = {NOISE_HASH: _digest(noise_path), "nullspace.kind": "null-noise", "nullspace.vit": vit_model_id}
    version = _find_version(tracker.client, registered_name, identity)
    if version is None:
        model = _find_model(tracker, identity) or tracker.client.create_logged_model(
            tracker.experiment_id,
            _model_name(registered_name),
            run_id,
            {**identity, MLFLOW_RUN_NOTE: description},
            flatten(settings or {}),
            model_type="null-noise",
        )
        if model.status != LoggedModelStatus.READY:
            wanted = {"noise": noise_path, "weights": weights_path, "config": config_path}
            packed = {part: path for part, path in wanted.items() if path is not None}
            config = {"weights": weights, "seed": seed, "model_args": dict(model_args or {}), **noise_model.DEFAULTS}
            _upload_pyfunc(tracker.client, model, run_id, packed, input_size, config)
        _link_output(tracker.client, run_id, model.model_id)
        tracker.metrics(run_id, metrics, model_id=model.model_id)
        marks = {**flatten(tags), **identity}
        version = _create_version(tracker.client, registered_name, model, run_id, marks, description)
    else:  # made by another run, or by this one before it was stopped: this run leads to it, too
        _link_output(tracker.client, run_id, version.tags[LOGGED_MODEL])
    tracker.client.set_registered_model_alias(registered_name, CHAMPION, version.version)
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


def _upload_pyfunc(
    client: MlflowClient,
    model: LoggedModel,
    run_id: str,
    packed: Mapping[str, Path],
    input_size: Sequence[int],
    config: dict[str, Any],
) -> None:
    height, width = input_size
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "model")
        mlflow.pyfunc.save_model(
            str(target),
            python_model=noise_model.__file__,  # models from code: the file itself is stored, no pickle
            artifacts={name: str(path) for name, path in packed.items()},
            model_config=config,
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


def _check_names(registered: str, noise: Path, weights: Path | None) -> None:
    if not registered.strip() or re.search(r"[/:']", registered):
        raise TrackingError(f"expected a registered model name without / : or ', got {registered!r}; rename it")
    if weights is not None and weights.name == noise.name:  # MLflow keeps both in one folder
        raise TrackingError(
            f"expected noise and weights files of different names, got {noise.name!r} twice; rename one"
        )
