"""The images of a run as MLflow knows data sets: name, digest of what was read, where it lies, how many images."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from mlflow.entities import Dataset

from pipelines.data.sources import SourceSettings
from pipelines.redact import redact

WHOLE_RUN = "evaluation"
_SHOWN = 12  # characters of the digest: MLflow keeps 36, its table has room for fewer
_COLUMNS = {"id": "string", "image": "binary", "label": "long"}  # what a source hands out


def dataset_of(source: SourceSettings, digest: str, ingested: Mapping[str, Any]) -> Dataset:
    """The data set of a run.

    Args:
        digest: of the source, which changes with every image, name and label; whole in the profile.
        ingested: result of the ingest stage.
    """
    kind, where = _place(source)
    columns = [{"name": name, "type": type_, "required": True} for name, type_ in _COLUMNS.items()]
    images, errors = ingested["images"], ingested["errors"]
    return Dataset(
        name=_name(source),
        digest=digest[:_SHOWN],
        source_type=kind,
        source=json.dumps(where),
        schema=json.dumps({"mlflow_colspec": columns}),
        # MLflow's page of a data set shows `num_rows` by itself.
        profile=json.dumps({"num_rows": images + errors, "images": images, "unreadable": errors, "digest": digest}),
    )


def _name(source: SourceSettings) -> str:
    if source.path is None:
        return f"digits {source.split}"
    path = (
        unquote(urlsplit(source.path).path) if "://" in source.path else str(Path(source.path).expanduser().absolute())
    )
    return path.rstrip("/").rpartition("/")[2] or redact(source.path)


def _place(source: SourceSettings) -> tuple[str, dict[str, Any]]:
    """MLflow's name of the kind of storage, by which it opens the source again, and what it needs for that."""
    if source.path is None:
        return "sklearn", {"dataset": "digits", "split": source.split}
    chosen = source.model_dump(mode="json", exclude={"path", "split", "labels"}, exclude_defaults=True)
    labels = {"labels": redact(source.labels)} if source.labels else {}
    scheme = urlsplit(source.path).scheme if "://" in source.path else "file"
    if scheme in ("http", "https"):
        return "http", {"url": redact(source.path), **labels, **chosen}
    uri = redact(source.path) if "://" in source.path else str(Path(source.path).expanduser().absolute())
    return "local" if scheme == "file" else scheme, {"uri": uri, **labels, **chosen}
