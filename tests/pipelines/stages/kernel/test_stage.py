"""The kernel stage: what it finds is what the mathematics says of the model, also where float32 leaves doubt."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from nullspace.kernel.shift import SHIFT_THRESHOLD, exact_kernel, shift_test
from nullspace.model.vit import SplitViT
from pipelines.files import read_json
from pipelines.stages.kernel import stage as stage
from tests.pipelines import tiny


def found(workdir: Any) -> dict[str, Any]:
    """What the stage makes of the tiny model and a shard of images."""
    ingest = tiny.ingested(workdir / "ingest", (5,))
    out = workdir / "kernel"
    out.mkdir()
    context: Any = type("Context", (), {})()
    context.folder, context.inputs = out, {"ingest": type("Done", (), {"folder": ingest})()}
    result = stage.kernel(context, model=tiny.spec().load("cpu"), rtol=None)
    assert read_json(out / "kernel.json") == result and (out / "spectrum.parquet").is_file()
    return result


def test_it_is_the_models_own_kernel(tmp_path: Any) -> None:
    result = found(tmp_path)
    expected = exact_kernel(tiny.spec().load("cpu")).to_dict()
    assert {name: result[name] for name in expected} == expected
    assert result["modulo_shift"] and (result["nullity"], result["plain_nullity"]) == (673, 672)
    assert result["shift"]["invariant"]


def test_shifts_in_doubt_are_measured_again_in_float64(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.dtype] = []

    def doubting(model: SplitViT, images: torch.Tensor) -> Any:
        seen.append(next(model.parameters()).dtype)
        measured = shift_test(model, images)
        if seen[-1] == torch.float64:
            return measured
        change = 2 * SHIFT_THRESHOLD * measured.control_max_abs_logit_change
        doubtful = replace(measured, invariant=False, max_abs_logit_change=change)
        assert doubtful.in_doubt
        return doubtful

    monkeypatch.setattr(stage, "shift_test", doubting)
    assert found(tmp_path)["shift"]["invariant"] and seen == [torch.float32, torch.float64]
