"""Attacks on a few real digits: verdicts, what stands beside them, and the figures made of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from pipelines.engine.stage import Done
from pipelines.evaluations.adversarial.rows import EVALUATION
from pipelines.evaluations.adversarial.settings import AdversarialSettings
from pipelines.evaluations.adversarial.ways import conditions_of, shown, ways_of
from pipelines.evaluations.drawn import draw
from tests.pipelines import tiny
from tests.pipelines.evaluations.outcome_columns import OUTCOMES

SETTINGS = AdversarialSettings(
    images=8, epsilon_linf=(32, 4), epsilon_l2=(2.0,), attacks=("pgd", "fgsm", "apgd_t"), steps=8, batch_images=3,
    examples=2,
)  # fmt: skip


@pytest.fixture(scope="module")
def attacked(made: dict[str, Done], tmp_path_factory: pytest.TempPathFactory) -> Done:
    return tiny.evaluated(EVALUATION, tmp_path_factory.mktemp("adversarial"), SETTINGS, made)


def test_every_drawn_image_has_a_row_in_every_condition(attacked: Done, made: dict[str, Done]) -> None:
    rows = tiny.rows(attacked.folder)
    drawn = draw(made["ingest"].folder, 8, "adversarial", tiny.SEED)
    by = dict(list(rows.groupby("condition")))
    assert set(by) == set(conditions_of(SETTINGS, kernel=True)) == set(attacked.result["conditions"])
    assert all(set(group["id"]) == drawn and len(group) == 8 for group in by.values())
    assert set(rows.columns) >= OUTCOMES | {"robust", "by", "distance", "forwards", "backwards"}


def test_an_image_is_broken_within_epsilon_or_robust(attacked: Done) -> None:
    rows = tiny.rows(attacked.folder).set_index("id")
    for way in ways_of(SETTINGS):
        own = rows[rows["condition"] == way.name]
        robust = own["robust"].astype(bool)
        assert (own["distance"][~robust] <= way.epsilon).all() and np.isinf(own["distance"][robust]).all()
        assert (own["by"][robust] == "").all() and set(own["by"][~robust]) <= {"clean", "fgsm", "pgd", "apgd_t"}
        assert (own["prediction_noised"] == own["label"])[robust].all()
        assert not (own["prediction_noised"] == own["label"])[~robust].any()
    small, large = (rows[rows["condition"] == f"linf_eps{size}"]["robust"].astype(bool) for size in (4, 32))
    assert (large.sort_index() <= small.sort_index()).all() and not large.all()


def test_the_kernel_saves_no_attack_and_controls_hardly_matter(attacked: Done) -> None:
    found = attacked.result["conditions"]
    rows = tiny.rows(attacked.folder).set_index("id")
    for way in ways_of(SETTINGS):
        assert found[way.condition("kernel")]["agreement"] == 1
        verdicts = [rows[rows["condition"] == name]["robust"].astype(bool).sort_index()
                    for name in (way.name, way.condition("kernel_noise"))]  # fmt: skip
        assert verdicts[0].equals(verdicts[1]), "noise in the kernel changes no verdict"
        assert found[way.name]["robust"] <= found[way.condition("row_space")]["robust"]
        assert found[way.name]["robust"] <= min(found[way.condition(what)]["robust"] for what in ("signs", "permuted"))


def test_figures_are_those_of_the_rows(attacked: Done) -> None:
    rows = tiny.rows(attacked.folder)
    own, figures = rows[rows["condition"] == "linf_eps32"], attacked.result["conditions"]["linf_eps32"]
    assert figures["robust"] == own["robust"].mean() and figures["robust_ci"][0] <= figures["robust"]
    assert figures["forwards"] == own["forwards"].mean() and figures["backwards"] == own["backwards"].mean()
    counted = {name: int((own["by"] == name).sum()) for name in set(own["by"]) - {""}}
    assert {name: figures[f"by_{name}"] for name in counted} == counted
    smallest = rows[rows["condition"] == "smallest"]
    sizes = attacked.result["conditions"]["smallest"]
    assert sizes["median_smallest_l2"] == pytest.approx(np.nanmedian(smallest["smallest_l2"]))
    # The kernel holds 672 of the 768 directions of a patch: far more fits in than an attack needs.
    assert (smallest["invisible_l2"] > 2 * smallest["smallest_l2"]).all()


def test_the_same_whatever_the_batch(attacked: Done, made: dict[str, Done], tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"batch_images": 8, "norms": ("linf",), "smallest": False, "confined": False})
    again = tiny.evaluated(EVALUATION, tmp_path / "again", settings, made)
    columns = ["id", "robust", "by", "forwards"]

    def verdicts(done: Done) -> Any:
        rows = tiny.rows(done.folder)
        return rows[rows["condition"] == "linf_eps4"][columns].sort_values("id").to_numpy().tolist()

    assert verdicts(again) == verdicts(attacked)


def test_pictures_are_kept_with_what_the_model_says(attacked: Done) -> None:
    folder = attacked.folder / "examples"
    name = shown(SETTINGS).name
    assert {path.name for path in folder.glob("00*")} == {
        "00.json", "00_image.png", f"00_{name}.png", f"00_{name}_difference.png",
    }  # fmt: skip
    assert set(json.loads((folder / "00.json").read_text(encoding="utf-8"))) == {"image", name}


def test_settings_are_checked_and_put_in_order() -> None:
    assert SETTINGS.attacks == ("fgsm", "pgd", "apgd_t") and SETTINGS.epsilon_linf == (4, 32)
    for wrong, message in (
        ({"attacks": ["deepfool"]}, "expected attacks among fgsm"),
        ({"epsilon_linf": [0]}, "more than 0"),
        ({"epsilon_l2": [1, 1]}, "each once"),
        ({"norms": ["linf", "linf"]}, "each once"),
    ):
        with pytest.raises(ValidationError, match=message):
            AdversarialSettings.model_validate(wrong)
