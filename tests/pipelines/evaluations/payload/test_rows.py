"""Hidden messages in a few pictures: the rows, and the figures made of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from nullspace.model.vit import SplitViT
from pipelines.data.shards import shard_table, write_shard
from pipelines.engine.ids import IdDigest
from pipelines.engine.models import ModelSpec
from pipelines.engine.stage import Done
from pipelines.evaluations.base import NO_KERNEL, Asked
from pipelines.evaluations.payload import rows as payload
from pipelines.evaluations.payload.rows import EVALUATION, UNMARKED
from pipelines.evaluations.payload.settings import PayloadSettings
from pipelines.stages.reference.stage import ReferenceShards
from tests.nullspace.watermark.payload.marked import pictures
from tests.pipelines import tiny

DISTORTIONS = ("none", "jpeg_75", "crop_0.5", "noise_0.02+jpeg_75")
SETTINGS = PayloadSettings(message_bytes=4, psnr=40, distortions=DISTORTIONS, batch_images=4, examples=2)
IMAGES = 6
KERNEL = {"nullity": 577, "modulo_shift": True}


def spec_of(model: SplitViT, **args: Any) -> ModelSpec:
    return ModelSpec("tiny", "vit_tiny_patch16_224", "random", 0, model.weights_sha256, args)


@pytest.fixture(scope="module")
def model() -> SplitViT:
    return SplitViT.load("vit_tiny_patch16_224", weights="random", seed=0)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory, model: SplitViT) -> Done:
    """Of one shard."""
    workdir = tmp_path_factory.mktemp("payload")
    ids, images = [f"i{n}" for n in range(IMAGES)], pictures(IMAGES, 224).numpy()
    shards, reference = workdir / "ingest", workdir / "reference"
    shards.mkdir()
    reference.mkdir()
    write_shard(shards / "shard-000000-ab.parquet", shard_table(ids, images, [0] * IMAGES))
    tiny.work_through(ReferenceShards(str(reference), spec_of(model), str(shards), "cpu", 6), shards)
    made = {
        "ingest": tiny.finished(shards, ids=IdDigest().add(ids).to_dict()),
        "reference": tiny.finished(reference),
        "kernel": tiny.finished(workdir / "kernel", **KERNEL),
    }
    return tiny.evaluated(EVALUATION, workdir / "payload", SETTINGS, made, model=spec_of(model), seed=3)


@pytest.fixture(scope="module")
def rows(evaluated: Done) -> Any:
    return tiny.rows(evaluated.folder)


def test_every_image_is_there_once_under_every_condition(rows: Any) -> None:
    assert sorted(zip(rows["condition"], rows["id"], strict=True)) == sorted(
        (condition, f"i{n}") for condition in (UNMARKED, *DISTORTIONS) for n in range(IMAGES)
    )


def test_figures_are_those_of_the_rows(evaluated: Done, rows: Any) -> None:
    conditions = evaluated.result["conditions"]
    assert list(conditions) == [UNMARKED, *DISTORTIONS]
    for name in DISTORTIONS:
        row, own = conditions[name], rows[rows.condition == name]
        assert row["n"] == IMAGES and row["bit_accuracy"] == pytest.approx(own.bit_accuracy.mean())
        assert row["word_accuracy"] == own.read.mean() and row["agreement"] == own.same_prediction.mean()
        assert row["found_at_1e-6"] == (own.p_value <= 1e-6).mean()
        assert row["max_probability_change"] == own.probability_change.max()
        assert row["largest_token_change"] == own.largest_token_change.max()
        assert row["token_change"] == pytest.approx(own.token_change.mean())
    saved = rows[rows.condition == "none"]
    for name in ("psnr", "ssim", "vif"):
        assert conditions["none"][name] == pytest.approx(saved[name].mean())
        assert not any(name in conditions[other] for other in (UNMARKED, *DISTORTIONS[1:]))
    assert conditions[UNMARKED]["found_at_1e-3"] == 0 and "word_accuracy" not in conditions[UNMARKED]


def test_messages_survive_what_they_should_and_the_model_sees_none(evaluated: Done) -> None:
    after = evaluated.result["conditions"]
    assert after["none"]["word_accuracy"] == after["jpeg_75"]["word_accuracy"] == 1
    assert after["crop_0.5"]["word_accuracy"] == 0, "a crop moves every patch"
    assert after["none"]["agreement"] == 1 and after["none"]["max_probability_change"] < 1e-3
    assert after["none"]["psnr"] >= 39.98 and after["none"]["ssim"] > 0.9


def test_pictures_are_kept(evaluated: Done) -> None:
    names = sorted(file.name for file in (evaluated.folder / "examples").iterdir())
    kinds = ("hidden", "hidden_difference", "original")
    assert names == [f"{number}_{kind}.png" for number in ("00", "01") for kind in kinds]


def test_a_tally_of_nothing_is_nothing() -> None:
    tally = payload._Tally("none")
    tally.add(pa.table({"id": pa.array([], pa.string())}))
    assert tally.n == 0


def asked(model: ModelSpec, settings: PayloadSettings, tmp_path: Path, **kernel: Any) -> Asked[PayloadSettings]:
    return Asked(settings, model, 0, {"kernel": tiny.finished(tmp_path, **(KERNEL | kernel))})


def test_why_messages_cannot_be_hidden(model: SplitViT, tmp_path: Path) -> None:
    assert payload.verdict(asked(spec_of(model), SETTINGS, tmp_path)).skipped is None
    args = {"img_size": 32, "patch_size": 8, "embed_dim": 96, "num_heads": 3}
    small = SplitViT.load("vit_tiny_patch16_224", weights="random", model_args=args)
    reason = payload.verdict(asked(spec_of(small, **args), PayloadSettings(), tmp_path)).skipped
    assert "64 embedding sites, too few for messages of 8 bytes" in str(reason)


def test_without_a_kernel_the_reason_does_not_claim_a_direction(tmp_path: Path) -> None:
    args = {"img_size": 32, "patch_size": 4, "embed_dim": 96, "num_heads": 3}
    square = SplitViT.load("vit_tiny_patch16_224", weights="random", model_args=args)
    question = asked(spec_of(square, **args), SETTINGS, tmp_path)
    question.inputs["kernel"].result.update(nullity=0, modulo_shift=True)
    assert payload.verdict(question).skipped == NO_KERNEL


def test_messages_that_jpeg_will_destroy_are_warned_of(evaluated: Done, model: SplitViT, tmp_path: Path) -> None:
    assert payload.verdict(asked(spec_of(model), SETTINGS, tmp_path)).warnings == () and evaluated.warnings == []
    (text,) = payload.verdict(asked(spec_of(model), PayloadSettings(message_bytes=32, psnr=50), tmp_path)).warnings
    assert text.startswith("hidden messages: the patch embedding of vit_tiny_patch16_224 reads")


@pytest.mark.parametrize(
    ("distortions", "message"),
    [(("jpeg_0",), "expected a strength of 1 to 100"), (("none", "none"), "each distortion once, got none, none")],
)
def test_distortions_are_checked_before_any_work(distortions: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PayloadSettings(distortions=distortions)
