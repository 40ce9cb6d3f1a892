"""The reference: the worker called as a plain object on a few real digits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from nullspace.errors import WeightsError
from pipelines.engine.models import ModelSpec
from pipelines.stages.reference.stage import ReferenceShards
from tests.pipelines import tiny


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards and reference of 24 digits, cut 14 + 10."""
    workdir = tmp_path_factory.mktemp("made")
    tiny.referenced(workdir / "reference", tiny.ingested(workdir / "ingest"))
    return workdir


def test_reference_rows_are_the_models_own_answers(made: Path) -> None:
    found = tiny.rows(made / "reference")
    model = tiny.spec().load("cpu")
    images = torch.from_numpy(tiny.digits().images[: tiny.COUNT].copy()).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        logits, tokens = model(images), model.tokens(images)
    assert found["id"].tolist() == tiny.digits().ids[: tiny.COUNT]
    assert found["label"].tolist() == tiny.digits().labels[: tiny.COUNT].tolist()
    torch.testing.assert_close(torch.tensor(np.stack(found["logits"].tolist())), logits, rtol=1e-4, atol=1e-4)
    assert found["prediction"].tolist() == logits.argmax(-1).tolist()
    assert found["token_norm"].to_numpy() == pytest.approx(tokens.norm(dim=-1).mean(-1).numpy(), rel=1e-5)
    assert len(found["features"][0]) == model.embed_dim


def test_written_shards_are_skipped(made: Path, tmp_path: Path) -> None:
    out = tiny.referenced(tmp_path / "reference", made / "ingest")
    worker = ReferenceShards(str(out), tiny.spec(), str(made / "ingest"), "cpu", 8)
    (out / "rows-000001.parquet").unlink()
    before = (out / "rows-000000.parquet").stat()
    assert list(worker.work(["000000", "000001"])) == [("000000", 14), ("000001", 10)]
    assert (out / "rows-000000.parquet").stat() == before
    assert sorted(path.name for path in out.iterdir()) == ["rows-000000.parquet", "rows-000001.parquet"]


def test_a_worker_refuses_other_weights_than_the_driver_had(tmp_path: Path) -> None:
    other = ModelSpec("digits", tiny.spec().name, "random", 1, tiny.spec().weights_sha256)
    with pytest.raises(WeightsError, match="the run began with weights .* give every node the same file"):
        ReferenceShards(str(tmp_path), other, str(tmp_path), "cpu", 8)
