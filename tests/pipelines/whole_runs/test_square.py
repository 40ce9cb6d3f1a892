"""A square patch embedding through the stages: one direction per patch, modulo the shift, for every worker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from timm.models import is_model, register_model
from timm.models.vision_transformer import VisionTransformer

from pipelines import wording
from pipelines.digits import model as digits_model
from pipelines.engine.models import ModelSpec, load_model
from pipelines.evaluations.learned_noise.rows import EvaluateShards, _summaries
from pipelines.evaluations.payload import rows as hidden
from pipelines.evaluations.payload.settings import PayloadSettings
from pipelines.evaluations.visible_watermark.rows import WatermarkShards
from pipelines.evaluations.visible_watermark.rows import _summaries as _marked
from pipelines.evaluations.visible_watermark.settings import VisibleWatermarkSettings
from pipelines.stages.kernel import stage as stage
from pipelines.stages.reference.stage import ReferenceShards
from pipelines.workflow import model_part
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


def arguments(folder: Path, kernel: dict[str, Any]) -> dict[str, Any]:
    return {
        "shards": str(folder / "ingest"),
        "reference": str(folder / "reference"),
        "device": "cpu",
        "batch_images": 6,
        "rtol": None,
        "modulo_shift": kernel["modulo_shift"],
        "examples": ("000000", 1),
    }


def test_the_kernel_has_one_direction_and_is_said_to_be_modulo_the_shift(kernel: dict[str, Any]) -> None:
    assert (kernel["nullity"], kernel["plain_nullity"], kernel["modulo_shift"]) == (1, 0, True)
    assert kernel["rank"] == 767
    assert "The model is blind to 1 of 768 directions of a patch, modulo the shift" in wording.kernel_sentence(kernel)
    assert "0 leave the token as it is, one only shifts it" in model_part.nullity_fact(kernel)


def test_noise_along_it_is_invisible(folder: Path, spec: ModelSpec, kernel: dict[str, Any], tmp_path: Path) -> None:
    noise = tiny.noise()
    wide = type(noise)(**{**vars(noise), "tensor": noise.tensor.repeat(1, 8)})
    wide.save(tmp_path / "noise.safetensors")
    more = {"noise": str(tmp_path / "noise.safetensors"), "split": tiny.split(), "rms": 0.5}
    (tmp_path / "evaluate").mkdir()
    worker = EvaluateShards(str(tmp_path / "evaluate"), spec, **arguments(folder, kernel), **more)
    tiny.work_through(worker, folder / "ingest")
    files = sorted((tmp_path / "evaluate").glob("rows-*.parquet"))
    found = _summaries(files)["kernel"]
    assert found["exact"]["agreement"] == 1 and found["exact"]["largest_token_change"] < 1e-4
    assert found["exact"]["max_abs_logit_change"] < 0.01 * found["permuted"]["max_abs_logit_change"]
    assert 0 < found["in_box"]["token_change"] < 0.1 * found["permuted"]["token_change"]
    rows = pq.read_table(files[0]).to_pandas().set_index("condition")
    assert rows.loc["learned", "token_change"].isna().all()
    assert found["in_box"]["largest_token_change"] == rows.loc["kernel_in_box", "largest_token_change"].max()
    assert found["in_box"]["max_probability_change"] == rows.loc["kernel_in_box", "probability_change"].max()
    assert len(list((tmp_path / "evaluate" / "examples").iterdir())) == 5


def test_a_visible_mark_lies_along_it(folder: Path, spec: ModelSpec, kernel: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "watermark").mkdir()
    settings = VisibleWatermarkSettings(text="NULL", iterations=300)
    worker = WatermarkShards(
        str(tmp_path / "watermark"), spec, **arguments(folder, kernel), settings=settings, seed=tiny.SEED
    )
    files = sorted(tiny.work_through(worker, folder / "ingest").glob("rows-*.parquet"))
    found = _marked(files)
    assert found["marked"]["token_change"] < 0.2 * found["permuted"]["token_change"]
    assert found["marked"]["max_abs_logit_change"] < 0.2 * found["plain"]["max_abs_logit_change"]


def test_messages_have_too_few_directions_and_are_told_so(spec: ModelSpec, kernel: dict[str, Any]) -> None:
    said = hidden.why_not(spec.load("cpu"), PayloadSettings(message_bytes=2), kernel)
    assert said is not None and "one direction per patch, which only shifts the token: too few for messages" in said
