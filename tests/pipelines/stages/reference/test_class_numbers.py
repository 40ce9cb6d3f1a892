"""Classes of a source beside those of a model: wnids, other names, and the labels a model's stages see."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from timm.data.imagenet_info import ImageNetInfo

from pipelines.stages.reference.class_numbers import class_numbers, fingerprint, with_classes
from pipelines.stages.reference.stage import ReferenceShards
from tests.pipelines import tiny

WNIDS = ["n02102040", "n01440764", "n03394916"]  # springer, tench, horn


@pytest.mark.parametrize(
    ("classes", "subset"), [(1000, "imagenet-1k"), (21841, "imagenet-22k"), (11821, "imagenet-12k")]
)
def test_wnids_get_the_class_the_model_has_for_them(classes: int, subset: str) -> None:
    order = ImageNetInfo(subset).label_names()
    names = [name for name in WNIDS if name in order]
    assert class_numbers(names, classes).numbers == tuple(order.index(name) for name in names) and names
    assert not class_numbers(names, classes).warnings


def test_numbers_of_imagenet_are_the_known_ones() -> None:
    assert class_numbers(sorted(WNIDS), 1000).numbers == (0, 217, 566)


def test_all_of_imagenet_stays_as_it_is() -> None:
    found = class_numbers(sorted(ImageNetInfo("imagenet-1k").label_names()), 1000)
    assert found.numbers is None and not found.warnings


def test_wnids_that_the_model_does_not_know_are_unlabelled_with_a_warning() -> None:
    found = class_numbers(["n01440764", "n99999999", "other"], 1000)
    assert found.numbers == (0, -1, -1)
    assert found.warnings == (
        "2 of 3 classes of the source (n99999999, other) are none of the model's (imagenet-1k): "
        "their images count as unlabelled",
    )


def test_another_number_of_classes_causes_a_warning() -> None:
    for names, classes in ((["ant", "bee", "cat", "dog"], 10), (WNIDS, 10)):
        (text,) = class_numbers(names, classes).warnings
        assert f"the source has {len(names)} classes ({', '.join(names[:3])}" in text and "the model has 10:" in text
    assert not class_numbers([f"c{n}" for n in range(10)], 10).warnings
    assert not class_numbers(None, 10).warnings


def test_a_fine_tuned_models_own_wnids_stay_as_they_are() -> None:
    assert class_numbers(sorted(WNIDS), 3).numbers is None and not class_numbers(WNIDS, 3).warnings


def test_the_fingerprint_follows_what_labels_mean() -> None:
    facts = tiny.facts()
    assert fingerprint(with_classes(facts, None)) == {} == fingerprint(facts)
    mapped = replace(facts, spec=replace(facts.spec, class_numbers=(3, 4)))
    assert fingerprint(mapped) != fingerprint(replace(facts, spec=replace(facts.spec, class_numbers=(4, 3)))) != {}
    assert with_classes(facts, ["a", "b"]).label_warnings and fingerprint(with_classes(facts, ["a", "b"]))


def test_stages_see_the_models_own_classes(tmp_path: Path) -> None:
    shards = tiny.ingested(tmp_path / "ingest", (6,))
    own = replace(tiny.spec(), class_numbers=(9, 8, 7, 6, 5, 4, 3, 2, 1, -1))
    worker = ReferenceShards(str(tmp_path / "reference"), own, str(shards), "cpu", 8)
    worker.out.mkdir()
    tiny.work_through(worker, shards)
    rows = pq.read_table(tmp_path / "reference" / "rows-000000.parquet")
    expected = [-1 if label == 9 else 9 - label for label in tiny.digits().labels[:6].tolist()]
    assert rows.column("label").to_pylist() == expected
    assert all(0 < each <= 1 for each in rows.column("confidence").to_pylist())
