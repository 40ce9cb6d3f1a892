"""A square patch embedding through the stages: one direction per patch, modulo the shift, for every worker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from timm.models import is_model, register_model
from timm.models.vision_transformer import VisionTransformer

from pipelines.digits import model as digits_model
from pipelines.engine.ids import IdDigest
from pipelines.engine.models import ModelSpec, load_model
from pipelines.engine.stage import Done
from pipelines.evaluations.kernel_noise.rows import EVALUATION as KERNEL_NOISE
from pipelines.evaluations.kernel_noise.settings import KernelNoiseSettings
from pipelines.evaluations.payload.rows import EVALUATION as PAYLOAD
from pipelines.evaluations.payload.settings import PayloadSettings
from pipelines.evaluations.visible_watermark.rows import EVALUATION as VISIBLE_WATERMARK
from pipelines.evaluations.visible_watermark.settings import VisibleWatermarkSettings
from pipelines.report.view import Result
from pipelines.stages.kernel import report
from pipelines.stages.kernel import stage as stage
from pipelines.stages.reference.stage import ReferenceShards
from tests.pipelines import tiny

NAME = "nullspace_square_vit"
digits_model.default_cfgs |= {NAME: digits_model.default_cfgs["nullspace_digits_vit"]}


def nullspace_square_vit(pretrained: bool = False, **kwargs: Any) -> VisionTransformer:
    """The digits model with as many numbers per token as a patch has."""
    return digits_model.nullspace_digits_vit(pretrained, **{"embed_dim": 768, "depth": 1, **kwargs})


@pytest.fixture(scope="module")
def spec() -> ModelSpec:
    if not is_model(NAME):
        nullspace_square_vit.__module__ = digits_model.__name__  # where timm looks for its configuration
        register_model(nullspace_square_vit)
    model = load_model(NAME, "random", seed=0, device="cpu")
    return ModelSpec("square", NAME, "random", 0, model.weights_sha256)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, spec: ModelSpec) -> Path:
    """Shards of a few digits, and what the model says of them."""
    folder = tmp_path_factory.mktemp("square")
    shards = tiny.ingested(folder / "ingest", (6,))
    (folder / "reference").mkdir()
    tiny.work_through(ReferenceShards(str(folder / "reference"), spec, str(shards), "cpu", 6), shards)
    return folder


@pytest.fixture(scope="module")
def kernel(folder: Path, spec: ModelSpec) -> dict[str, Any]:
    """What the kernel stage says."""
    context: Any = type("Context", (), {})()
    context.folder, context.inputs = folder / "kernel", {"ingest": type("Done", (), {"folder": folder / "ingest"})()}
    context.folder.mkdir()
    return stage.kernel(context, model=spec.load("cpu"), rtol=None)


@pytest.fixture
def made(folder: Path, kernel: dict[str, Any]) -> dict[str, Done]:
    """The stages that evaluations read."""
    ids = IdDigest().add(tiny.digits().ids[:6]).to_dict()
    return {
        "ingest": tiny.finished(folder / "ingest", ids=ids),
        "reference": tiny.finished(folder / "reference"),
        "kernel": tiny.finished(folder / "kernel", **kernel),
    }


def test_the_kernel_has_one_direction_modulo_the_shift(kernel: dict[str, Any]) -> None:
    assert (kernel["nullity"], kernel["plain_nullity"], kernel["modulo_shift"]) == (1, 0, True)
    assert kernel["rank"] == 767
    text = Result(kernel)
    assert "The model is blind to 1 of 768 directions of a patch, modulo the shift" in report.sentence(text)
    assert "0 leave the token as it is, one only shifts it" in report.nullity_fact(text)


def test_noise_along_it_is_invisible(made: dict[str, Done], spec: ModelSpec, tmp_path: Path) -> None:
    settings = KernelNoiseSettings(rms=0.5, examples=1, batch_images=6)
    found = tiny.evaluated(KERNEL_NOISE, tmp_path, settings, made, model=spec).result["conditions"]
    assert found["exact"]["agreement"] == 1 and found["exact"]["largest_token_change"] < 1e-4
    assert found["exact"]["max_abs_logit_change"] < 0.01 * found["permuted"]["max_abs_logit_change"]
    assert 0 < found["in_box"]["token_change"] < 0.1 * found["permuted"]["token_change"]
    rows = tiny.rows(tmp_path).set_index("condition")
    assert found["in_box"]["largest_token_change"] == rows.loc["in_box", "largest_token_change"].max()
    assert found["in_box"]["max_probability_change"] == rows.loc["in_box", "probability_change"].max()
    assert len(list((tmp_path / "examples").iterdir())) == 5


def test_a_visible_mark_lies_along_it(made: dict[str, Done], spec: ModelSpec, tmp_path: Path) -> None:
    settings = VisibleWatermarkSettings(text="NULL", iterations=300, batch_images=6, examples=1)
    found = tiny.evaluated(VISIBLE_WATERMARK, tmp_path, settings, made, model=spec).result["conditions"]
    assert found["marked"]["token_change"] < 0.2 * found["permuted"]["token_change"]
    assert found["marked"]["max_abs_logit_change"] < 0.2 * found["plain"]["max_abs_logit_change"]


def test_messages_are_skipped_because_there_are_too_few_directions(
    made: dict[str, Done], spec: ModelSpec, tmp_path: Path
) -> None:
    text = tiny.evaluated(PAYLOAD, tmp_path, PayloadSettings(message_bytes=2), made, model=spec).result
    assert "one direction per patch, which only shifts the token: too few for messages" in text["skipped"]
    assert list(text) == ["skipped"]
