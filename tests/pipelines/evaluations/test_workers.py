"""The workers of reference, evaluate and watermark, called as plain objects on a few real digits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

from nullspace.errors import WeightsError
from pipelines.engine.models import ModelSpec
from pipelines.evaluations.kernel_noise.noise import KERNEL_CONDITIONS
from pipelines.evaluations.learned_noise.noise import TOKEN_CONDITIONS
from pipelines.evaluations.learned_noise.rows import _summaries
from pipelines.evaluations.visible_watermark.mark import JPEG_QUALITIES
from pipelines.evaluations.visible_watermark.rows import CONDITIONS, WatermarkShards
from pipelines.evaluations.visible_watermark.rows import _summaries as _marked
from pipelines.evaluations.visible_watermark.settings import VisibleWatermarkSettings
from pipelines.stages.reference.stage import ReferenceShards
from tests.pipelines import tiny

OUTCOMES = {
    *("agree", "prediction_clean", "prediction_noised", "confidence_clean", "confidence_noised"),
    *("squared_feature_change", "squared_logit_change", "squared_probability_change", "max_abs_logit_change"),
}
CERTIFICATE = {"probability_change", "token_change", "largest_token_change"}
CHANGES = ["squared_feature_change", "squared_logit_change", "squared_probability_change", "max_abs_logit_change"]


def rows(folder: Path) -> Any:
    """All rows of a stage as a data frame; Any, since pandas' stubs take its comparisons for series."""
    tables = [pq.read_table(file).to_pandas() for file in sorted(folder.glob("rows-*.parquet"))]
    return pd.concat(tables, ignore_index=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards and reference of 24 digits, cut 14 + 10, and the rows evaluated from them."""
    work = tmp_path_factory.mktemp("made")
    shards = tiny.ingested(work / "ingest")
    reference = tiny.referenced(work / "reference", shards)
    tiny.work_through(tiny.evaluator(work / "evaluate", shards, reference), shards)
    return work


def test_reference_rows_are_the_models_own_answers(made: Path) -> None:
    found = rows(made / "reference")
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
    answer = worker({"shard": np.array(["000000", "000001"])})
    assert answer["rows"].tolist() == [14, 10] and answer["shard"].tolist() == ["000000", "000001"]
    assert (out / "rows-000000.parquet").stat() == before
    assert sorted(path.name for path in out.iterdir()) == ["rows-000000.parquet", "rows-000001.parquet"]


def test_a_worker_refuses_other_weights_than_the_driver_had(tmp_path: Path) -> None:
    other = ModelSpec("digits", tiny.spec().name, "random", 1, tiny.spec().weights_sha256)
    with pytest.raises(WeightsError, match="the run began with weights .* give every node the same file"):
        ReferenceShards(str(tmp_path), other, str(tmp_path), "cpu", 8)


def test_every_image_has_one_row_for_each_condition(made: Path) -> None:
    found = rows(made / "evaluate")
    assert set(found.columns) == {"id", "label", "split", "condition", "noise_rms"} | CERTIFICATE | OUTCOMES
    assert set(found["condition"]) == {*TOKEN_CONDITIONS, *KERNEL_CONDITIONS}
    for _, group in found.groupby("condition"):
        assert sorted(group["id"]) == tiny.digits().ids[: tiny.COUNT]
    sizes = {"learn": 8, "validation": 6, "calibration": 4, "test": 6}
    assert found.groupby("split")["id"].nunique().to_dict() == sizes


def test_the_kernel_is_invisible_and_its_permutation_is_not(made: Path) -> None:
    by = {str(condition): group for condition, group in rows(made / "evaluate").groupby("condition")}
    assert by["kernel_exact"]["agree"].all() and by["kernel_in_box"]["agree"].all()
    assert by["kernel_exact"]["max_abs_logit_change"].max() < 1e-3
    assert by["kernel_permuted"]["agree"].mean() < 0.8 and by["kernel_gaussian"]["agree"].mean() < 0.8


def test_kernel_controls_have_the_norm_of_the_kernel_noise(made: Path) -> None:
    found = rows(made / "evaluate").pivot(index="id", columns="condition", values="noise_rms")
    for condition in ("kernel_exact", "kernel_permuted", "kernel_gaussian"):
        assert found[condition].to_numpy() == pytest.approx(1.5, rel=1e-5)
    assert (found["kernel_in_box"] < 1.5).all()
    assert found[list(TOKEN_CONDITIONS)].isna().all(axis=None)


def test_rows_depend_neither_on_the_cut_nor_on_the_batch(made: Path, tmp_path: Path) -> None:
    shards = tiny.ingested(tmp_path / "ingest", (5, 0, 12, 7))
    reference = tiny.referenced(tmp_path / "reference", shards, batch_images=5)
    worker = tiny.evaluator(tmp_path / "evaluate", shards, reference, batch_images=5)
    keys = ["condition", "id"]
    one = rows(made / "evaluate").sort_values(keys).reset_index(drop=True)
    other = rows(tiny.work_through(worker, shards)).sort_values(keys).reset_index(drop=True)
    same = [*keys, "label", "split", "agree", "prediction_clean", "prediction_noised"]
    pd.testing.assert_frame_equal(one[same], other[same])
    # Batches of another size are summed in another order: float32 rounding, which logits of some 10 make 1e-4 of.
    np.testing.assert_allclose(one[CHANGES], other[CHANGES], rtol=1e-3, atol=1e-4)


def test_summaries_count_test_images_for_tokens_and_all_for_the_kernel(made: Path) -> None:
    found = _summaries(sorted((made / "evaluate").glob("rows-*.parquet")))
    assert {name: said["n"] for name, said in found["noise"].items()} == dict.fromkeys(TOKEN_CONDITIONS, 6)
    assert {said["n"] for said in found["kernel"].values()} == {24}
    assert set(found["kernel"]) == {"exact", "permuted", "gaussian", "in_box"}
    assert found["kernel"]["exact"]["agreement"] == 1 and "noise_rms" not in found["noise"]["learned"]


@pytest.mark.parametrize("count", [0, 2])
def test_as_many_examples_are_kept_as_asked_for(made: Path, tmp_path: Path, count: int) -> None:
    worker = tiny.evaluator(
        tmp_path / "evaluate", made / "ingest", made / "reference", examples=("000001", count), batch_images=10
    )
    worker({"shard": np.array(["000001"])})
    assert len(list((tmp_path / "evaluate").glob("examples/*.png"))) == 5 * count


def watermarker(out: Path, made: Path, **changed: Any) -> WatermarkShards:
    out.mkdir(exist_ok=True)
    settings = VisibleWatermarkSettings(text="NULL", iterations=30)
    said = {"batch_images": 8, "examples": ("000000", 3), "settings": settings, "seed": tiny.SEED}
    said |= {"rtol": None, "modulo_shift": False}
    paths = {"shards": str(made / "ingest"), "reference": str(made / "reference")}
    return WatermarkShards(str(out), tiny.spec(), device="cpu", **{**said, **paths, **changed})


def test_a_mark_is_seen_by_people_and_not_by_the_model(made: Path, tmp_path: Path) -> None:
    out = tiny.work_through(watermarker(tmp_path / "watermark", made), made / "ingest")
    found = rows(out)
    quality = {"psnr", "ssim", "texture_contrast", "texture_contrast_half", "clean_texture_contrast"}
    assert set(found.columns) == {"id", "label", "condition"} | quality | CERTIFICATE | OUTCOMES
    by = {str(condition): group.sort_values("id") for condition, group in found.groupby("condition")}
    assert set(by) == {*CONDITIONS, *(f"jpeg_{quality}" for quality in JPEG_QUALITIES)}
    assert all(group["id"].tolist() == tiny.digits().ids[: tiny.COUNT] for group in by.values())
    assert by["marked"]["agree"].all()
    assert by["marked"]["squared_logit_change"].mean() < 0.05 * by["permuted"]["squared_logit_change"].mean()
    # The permutation keeps the norm of the change, so its PSNR is the same to rounding.
    assert by["permuted"]["psnr"].to_numpy() == pytest.approx(by["marked"]["psnr"].to_numpy(), abs=1e-2)
    assert by["marked"]["texture_contrast"].mean() > by["permuted"]["texture_contrast"].mean()
    assert by["plain"]["clean_texture_contrast"].tolist() == by["marked"]["clean_texture_contrast"].tolist()
    names = {
        f"{number:02d}_{kind}.png" for number in range(3) for kind in ("original", "plain", "marked", "difference")
    }
    assert {path.name for path in (out / "examples").iterdir()} == names
    files = sorted(out.glob("rows-*.parquet"))
    assert _marked(files)["marked"]["n"] == 24 and _marked(files)["marked"]["unmarked"] == 0


def test_an_image_the_mark_leaves_alone_has_no_psnr_mean(made: Path, tmp_path: Path) -> None:
    out = tiny.work_through(watermarker(tmp_path / "watermark", made, examples=("000000", 0)), made / "ingest")
    assert not (out / "examples").exists()
    file = out / "rows-000000.parquet"
    table = pq.read_table(file)
    at = table.column_names.index("psnr")
    pq.write_table(table.set_column(at, "psnr", [np.full(table.num_rows, np.inf)]), file)
    found = _marked([file])["marked"]
    assert (found["psnr"], found["psnr_ci"], found["unmarked"]) == (None, None, 14) and found["ssim"] is not None
