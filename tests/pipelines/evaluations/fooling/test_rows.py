"""Fooled pictures of a few real digits: pairs, rows, pictures, and the figures made of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors import safe_open

from nullspace.model.images import round_to_uint8
from pipelines.data.shards import read_shard, shard_path, shard_sizes
from pipelines.engine.stage import Done
from pipelines.evaluations.base import Asked
from pipelines.evaluations.drawn import draw
from pipelines.evaluations.fooling.rows import EVALUATION
from pipelines.evaluations.fooling.settings import FoolingSettings
from pipelines.evaluations.fooling.universal import UniversalChanges, read_change
from pipelines.evaluations.fooling.ways import conditions_of, ways_of
from pipelines.evaluations.pairs import Pairs, predictions_of
from pipelines.tracking.stage_runs import flat_metrics
from tests.pipelines import tiny
from tests.pipelines.evaluations.outcome_columns import OUTCOMES

SETTINGS = FoolingSettings(
    pairs=10, epsilon=(8, 32), looks=("grey",), steps=20, distortions=("jpeg_75",), batch_images=4, examples=2,
    universal=(24,), universal_images=12, universal_steps=10,
)  # fmt: skip


@pytest.fixture(scope="module")
def fooled(made: dict[str, Done], tmp_path_factory: pytest.TempPathFactory) -> Done:
    return tiny.evaluated(EVALUATION, tmp_path_factory.mktemp("fooling"), SETTINGS, made)


def test_every_drawn_image_has_a_row_in_every_condition(fooled: Done, made: dict[str, Done]) -> None:
    rows = tiny.rows(fooled.folder)
    drawn = draw(made["ingest"].folder, 10, "fooling", tiny.SEED)
    assert len(drawn) == 10
    by = dict(list(rows.groupby("condition")))
    assert set(by) == set(conditions_of(SETTINGS, kernel=True, universal=True)) == set(fooled.result["conditions"])
    assert all(set(group["id"]) == drawn and len(group) == 10 for group in by.values())
    assert set(rows.columns) >= OUTCOMES


def test_the_model_takes_them_for_the_image_and_not_the_controls(fooled: Done) -> None:
    found = fooled.result["conditions"]
    assert found["logits_eps32"]["agreement"] >= 0.9 and found["look_grey"]["agreement"] >= 0.9
    assert found["exact"]["agreement"] == 1 and found["exact"]["max_probability_change"] < 1e-3
    own, permuted = (found[name]["median_relative_logits"] for name in ("logits_eps32", "logits_eps32_permuted"))
    assert own < 0.2 * permuted
    assert found["logits_eps32_permuted"]["as_look"] >= 0.5 and found["logits_eps32_permuted"]["as_look_ci"][1] <= 1
    # a change of at most ε/255 has at least this PSNR
    assert found["logits_eps8"]["psnr_to_look"] >= -20 * np.log10(8 / 255)


def test_figures_are_those_of_the_rows(fooled: Done) -> None:
    rows = tiny.rows(fooled.folder)
    own = rows[rows["condition"] == "logits_eps8"]
    figures = fooled.result["conditions"]["logits_eps8"]
    assert figures["agreement"] == own["agree"].mean() and figures["as_look"] == own["as_look"].mean()
    assert figures["median_relative_logits"] == pytest.approx(np.median(own["relative_logits"]))
    assert figures["passes"] == pytest.approx(own["passes"].mean()) and own["passes"].max() <= 20


def test_a_pair_is_of_different_classes_and_decided_by_seed_and_ids_alone(
    made: dict[str, Done], tmp_path: Path
) -> None:
    ingest, reference = made["ingest"].folder, made["reference"].folder
    pairs = Pairs(ingest, reference, None, tiny.SEED)
    classes = predictions_of(ingest, reference, None)
    partners = {id_: pairs.partner(id_) for id_ in classes}
    assert all(classes[id_] != classes[other] for id_, other in partners.items())
    assert len(set(partners.values())) > len(partners) / 3
    other = tiny.inputs(tmp_path, sizes=(5, 9, 10))  # the same images in other shards
    again = Pairs(other["ingest"].folder, other["reference"].folder, None, tiny.SEED)
    assert {id_: again.partner(id_) for id_ in classes} == partners
    ids = tiny.digits().ids[:3]
    looks = again.looks(ids)
    shard = pq.read_table(shard_path(other["ingest"].folder, again.where[looks.ids[0]][0]))
    assert shard.column("id")[again.where[looks.ids[0]][1]].as_py() == looks.ids[0] == partners[ids[0]]
    assert looks.outputs.logits.argmax(1).tolist() == [classes[id_] for id_ in looks.ids]


def test_pictures_are_kept_with_what_the_model_says(fooled: Done) -> None:
    folder = fooled.folder / "examples"
    kept = {path.name for path in folder.glob("00_*.png")}
    assert kept == {
        f"00_{name}.png"
        for name in (
            "image", "look", "exact", "exact_difference", "logits_eps32", "logits_eps32_difference",
            "look_grey", "look_grey_difference", "universal_rms24", "universal_rms24_difference",
        )
    }  # fmt: skip
    captions = json.loads((folder / "00.json").read_text(encoding="utf-8"))
    assert set(captions) == {"image", "look", "exact", "logits_eps32", "look_grey", "universal_rms24"}
    assert captions["image"].split()[0] == captions["exact"].split()[0] != captions["look"].split()[0]


def test_another_model_judges_and_one_of_the_same_embedding_does_not(made: dict[str, Done], tmp_path: Path) -> None:
    other = other_judge(tmp_path)
    settings = SETTINGS.model_copy(
        update={
            "judges": ("other", "twin"),
            "pairs": 4,
            "epsilon": (32.0,),
            "looks": (),
            "exact": False,
            "universal": (),
            "steps": 3,
        }
    )
    others = {"other": other, "twin": replace(tiny.spec(), label="twin")}
    done = tiny.evaluated(EVALUATION, tmp_path / "out", settings, made, others=others)
    figures = done.result["conditions"]["logits_eps32"]
    shares = [figures[f"judge_other_{name}"] for name in ("image", "look", "other")]
    assert sum(shares) == pytest.approx(1) and "judge_twin_image" not in figures


def test_one_change_for_all_is_learned_from_images_that_are_not_asked_about(
    fooled: Done, made: dict[str, Done], tmp_path: Path
) -> None:
    drawn = draw(made["ingest"].folder, 10, "fooling", tiny.SEED)
    asked = Asked(SETTINGS, tiny.spec(), tiny.SEED, made, drawn=drawn)
    learned_from = {image.numpy().tobytes() for image in round_to_uint8(UniversalChanges("", asked, "cpu")._images)}
    shards = [read_shard(shard_path(made["ingest"].folder, name)) for name in shard_sizes(made["ingest"].folder)]
    others = {
        image.numpy().tobytes()
        for shard in shards
        for id_, image in zip(shard.ids, shard.images, strict=True)
        if id_ not in drawn
    }
    assert len(others) == 14 and len(learned_from) == 12 and learned_from < others
    change = read_change(fooled.folder, "universal_rms24")
    with safe_open(fooled.folder / "universal_rms24.safetensors", "pt") as file:
        assert file.metadata()["rms"] == "24/255" and file.metadata()["model"] == tiny.spec().name
    size = tiny.spec().load("cpu").patchify(change[None]).square().mean(dim=2).sqrt()
    assert torch.allclose(255 * size, torch.full_like(size, 24.0), rtol=1e-4)
    found = fooled.result["conditions"]
    own, permuted = (found[name] for name in ("universal_rms24", "universal_rms24_permuted"))
    assert own["n"] == 10 and own["max_probability_change"] < permuted["max_probability_change"]
    all_asked = SETTINGS.model_copy(update={"pairs": 24})
    done = tiny.evaluated(EVALUATION, tmp_path / "out", all_asked.model_copy(update={"steps": 1}), made)
    assert "universal_rms24" not in done.result["conditions"]
    assert ["0 images are left" in text and "fewer pairs" in text for text in done.warnings] == [True]


def test_a_few_figures_of_each_condition_become_metrics(fooled: Done) -> None:
    figures = dict(flat_metrics(fooled.result))
    metrics = {place for place in figures if EVALUATION.tracked(place)}
    for condition in fooled.result["conditions"]:
        assert f"conditions.{condition}.agreement" in metrics
        assert len([place for place in metrics if place.startswith(f"conditions.{condition}.")]) <= 10
    assert len(metrics) < len(figures) / 4


def other_judge(folder: Path) -> Any:
    """The digits model with the columns of its patch embedding turned round: the rest reads tokens otherwise."""
    import torch
    from safetensors.torch import save_file

    from pipelines.engine.models import learn_facts
    from pipelines.engine.settings import ModelSettings

    state = dict(tiny.spec().load("cpu").model.state_dict())
    name = next(key for key in state if key.endswith("patch_embed.proj.weight"))
    state[name] = torch.as_tensor(state[name]).flip(3).contiguous()
    save_file(state, folder / "other.safetensors")
    settings = ModelSettings(name=tiny.spec().name, label="other", weights=str(folder / "other.safetensors"))
    return learn_facts(settings, seed=0)[0].spec


def test_a_model_of_one_class_is_skipped(made: dict[str, Done], tmp_path: Path) -> None:
    folder = tmp_path / "reference"
    folder.mkdir()
    for file in made["reference"].folder.glob("rows-*.parquet"):
        table = pq.read_table(file)
        at = table.column_names.index("prediction")
        pq.write_table(table.set_column(at, "prediction", [np.zeros(table.num_rows, int)]), folder / file.name)
    blind = {**made, "reference": tiny.finished(folder)}
    done = tiny.evaluated(EVALUATION, tmp_path / "out", SETTINGS, blind)
    assert "all 10 images into one class" in done.result["skipped"]


def test_without_a_kernel_nothing_is_exact(made: dict[str, Done]) -> None:
    assert "exact" not in [way.name for way in ways_of(SETTINGS, kernel=False, universal=True)]
    assert [way.name for way in ways_of(SETTINGS, kernel=True, universal=True)] == [
        "exact", "logits_eps8", "logits_eps32", "look_grey", "universal_rms24",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"at": ["head"]}, "expected logits, features, tokens or block:N"),
        ({"epsilon": [0.5]}, "expected at least 1"),
        ({"epsilon": [4, 4]}, "expected each once, got 4, 4"),
        ({"distortions": ["jpeg_0"]}, "expected a strength of 1 to 100"),
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FoolingSettings(**wrong)
