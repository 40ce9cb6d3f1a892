"""Hidden messages as a part of the watermark stage: the worker as a plain object, and the figures of its rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nullspace.model.vit import SplitViT
from pipelines.data.shards import shard_table, write_shard
from pipelines.engine.models import ModelSpec
from pipelines.evaluations.payload import rows as hidden
from pipelines.evaluations.payload.settings import PayloadSettings
from tests.nullspace.watermark.payload.marked import pictures

SETTINGS = PayloadSettings(message_bytes=4, psnr=40, attacks=("none", "jpeg_75", "crop_0.5", "noise_0.02+jpeg_75"))
IMAGES = 6


@pytest.fixture(scope="module")
def model() -> SplitViT:
    return SplitViT.load("vit_tiny_patch16_224", weights="random", seed=0)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory, model: SplitViT) -> Path:
    """The rows of one shard."""
    out = tmp_path_factory.mktemp("hidden")
    images = pictures(IMAGES, 224).numpy()
    write_shard(out / "shard-000000-ab.parquet", shard_table([f"i{n}" for n in range(IMAGES)], images, [0] * IMAGES))
    spec = ModelSpec("tiny", "vit_tiny_patch16_224", "random", 0, model.weights_sha256)
    worker = hidden.HiddenShards(
        str(out), spec, str(out), "cpu", 4, settings=SETTINGS, seed=3, examples=("000000-ab", 2)
    )
    worker({"shard": np.array(["000000-ab"])})
    return out / "hidden-000000-ab.parquet"


def test_every_image_is_there_once_under_every_condition(rows: Path) -> None:
    table = pq.read_table(rows)
    assert sorted(zip(table["condition"].to_pylist(), table["id"].to_pylist(), strict=True)) == sorted(
        (condition, f"i{n}") for condition in (hidden.UNMARKED, *SETTINGS.attacks) for n in range(IMAGES)
    )


def test_figures_are_those_of_the_rows(rows: Path) -> None:
    table = pq.read_table(rows).to_pandas()
    found = hidden.summarised([rows], SETTINGS)
    for row in found["attacks"]:
        own = table[table.condition == row["attack"]]
        assert row["n"] == IMAGES and row["bit_accuracy"] == pytest.approx(own.bit_accuracy.mean())
        assert row["word_accuracy"] == own.read.mean() and row["agreement"] == own.same_prediction.mean()
        assert row["found_at_1e-6"] == (own.p_value <= 1e-6).mean()
        assert row["max_probability_change"] == own.probability_change.max()
        assert row["largest_token_change"] == own.largest_token_change.max()
        assert row["token_change"] == pytest.approx(own.token_change.mean())
    saved = table[table.condition == "none"]
    for name in ("psnr", "ssim", "fidelity"):
        assert found[name] == pytest.approx(saved[name].mean())
    assert found["unmarked"]["found_at_1e-3"] == 0


def test_messages_survive_what_they_should_and_the_model_sees_none(rows: Path) -> None:
    found = hidden.summarised([rows], SETTINGS)
    after = {row["attack"]: row for row in found["attacks"]}
    assert after["none"]["word_accuracy"] == after["jpeg_75"]["word_accuracy"] == 1
    assert after["crop_0.5"]["word_accuracy"] == 0, "a crop moves every patch"
    assert after["none"]["agreement"] == 1 and after["none"]["max_probability_change"] < 1e-3
    assert found["psnr"] >= 39.98 and found["ssim"] > 0.9


def test_pictures_are_kept(rows: Path) -> None:
    names = sorted(file.name for file in (rows.parent / "examples").iterdir())
    assert names == ["00_hidden.png", "00_hidden_difference.png", "01_hidden.png", "01_hidden_difference.png"]


def test_a_tally_of_nothing_is_nothing() -> None:
    tally = hidden._Tally()
    tally.add(pa.table({"id": pa.array([], pa.string())}))
    assert tally.n == 0


def test_why_messages_cannot_be_hidden(model: SplitViT) -> None:
    kernel = {"nullity": 577, "modulo_shift": True}
    assert hidden.why_not(model, SETTINGS, kernel) is None
    small = SplitViT.load(
        "vit_tiny_patch16_224",
        weights="random",
        model_args={"img_size": 32, "patch_size": 8, "embed_dim": 96, "num_heads": 3},
    )
    assert "64 places for bits, too few for messages of 8 bytes" in str(
        hidden.why_not(small, PayloadSettings(), kernel)
    )


def test_messages_that_jpeg_will_destroy_are_warned_of(model: SplitViT) -> None:
    assert hidden.warning(model, SETTINGS) is None
    said = hidden.warning(model, PayloadSettings(message_bytes=32, psnr=50))
    assert said is not None and said.startswith("hidden messages: the patch embedding of vit_tiny_patch16_224 reads")


@pytest.mark.parametrize(
    ("attacks", "said"),
    [(("jpeg_0",), "expected a strength of 1 to 100"), (("none", "none"), "each attack once, got none, none")],
)
def test_attacks_are_checked_before_any_work(attacks: tuple[str, ...], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        PayloadSettings(attacks=attacks)
