"""The images of a run as MLflow shows and opens data sets."""

from __future__ import annotations

import json
from typing import Any

import mlflow.data
import pytest
from mlflow.entities import DatasetInput

from pipelines.data.sources import SourceSettings
from pipelines.tracking.datasets import dataset_of

DIGEST = "0123456789abcdef" * 4
INGESTED = {"images": 47, "errors": 3}


@pytest.mark.parametrize(
    ("given", "name", "kind", "place"),
    [
        ({"kind": "digits"}, "digits held_out", "sklearn", {"dataset": "digits", "split": "held_out"}),
        ({"path": "/data/imagenet/val/"}, "val", "local", {"uri": "/data/imagenet/val"}),
        ({"path": "file:///data/my%20set"}, "my set", "local", {"uri": "file:///data/my%20set"}),
        ({"path": "s3://key:secret@bucket/sets/val"}, "val", "s3", {"uri": "s3://***@bucket/sets/val"}),
        ({"path": "gs://bucket"}, "gs://bucket", "gs", {"uri": "gs://bucket"}),
        (
            {"path": "https://h/x.parquet?token=abc", "kind": "parquet", "limit": 9},
            "x.parquet",
            "http",
            {"url": "https://h/x.parquet?token=***", "kind": "parquet", "limit": 9},
        ),
        (
            {"path": "/x", "kind": "csv", "labels": "s3://key:secret@b/l.csv"},
            "x",
            "local",
            {"uri": "/x", "kind": "csv", "labels": "s3://***@b/l.csv"},
        ),
    ],
)
def test_name_place_and_counts(given: dict[str, Any], name: str, kind: str, place: dict[str, Any]) -> None:
    found = dataset_of(SourceSettings.model_validate(given), DIGEST, INGESTED)
    assert (found.name, found.source_type, json.loads(found.source)) == (name, kind, place)
    assert DIGEST.startswith(found.digest) and len(found.digest) == 12
    profile = json.loads(found.profile or "")
    assert profile == {"num_rows": 50, "images": 47, "unreadable": 3, "digest": DIGEST}
    assert "secret" not in str(dict(found)) and "abc" not in found.source


@pytest.mark.parametrize("path", ["/data/val", "s3://bucket/val", "https://host/val.parquet"])
def test_mlflow_opens_the_place_again(path: str) -> None:
    found = dataset_of(SourceSettings(path=path), DIGEST, INGESTED)
    source = mlflow.data.get_source(DatasetInput(found, []))
    assert path in source.to_dict().values()
