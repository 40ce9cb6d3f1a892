"""The split: exact sizes, the same for any cut of the data into shards."""

from __future__ import annotations

import random
import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nullspace.metrics.keyed import place
from pipelines.data.split import Split, make_split, require_images
from pipelines.errors import ConfigError


def split_of(ids: list[str], seed: int, learn: int, validation: int, calibration: int = 1) -> Split:
    lowest = sorted(place(id_, seed) for id_ in ids)[: learn + validation + calibration + 1]
    return make_split(lowest, seed, learn=learn, validation=validation, calibration=calibration, total=len(ids))


@given(st.sets(st.text(), min_size=4, max_size=60), st.integers(0, 99), st.data())
def test_the_sizes_are_exact(ids: set[str], seed: int, data: st.DataObject) -> None:
    learn = data.draw(st.integers(1, len(ids) - 3))
    validation = data.draw(st.integers(1, len(ids) - 2 - learn))
    calibration = data.draw(st.integers(1, len(ids) - 1 - learn - validation))
    parts = Counter(map(split_of(sorted(ids), seed, learn, validation, calibration).part, ids))
    test = len(ids) - learn - validation - calibration
    assert parts == {"learn": learn, "validation": validation, "calibration": calibration, "test": test}


def test_the_order_of_the_ids_does_not_matter() -> None:
    ids = [f"n{number:05d}.JPEG" for number in range(500)]
    shuffled = random.Random(0).sample(ids, len(ids))
    assert split_of(ids, 1, 100, 50) == split_of(shuffled, 1, 100, 50)


def test_another_seed_chooses_other_images() -> None:
    ids = [str(number) for number in range(1000)]
    splits = [split_of(ids, seed, 500, 100) for seed in (0, 1)]
    one, other = ({id_ for id_ in ids if split.part(id_) == "learn"} for split in splits)
    assert 200 < len(one & other) < 300, "half of a half, as chance has it"


def test_neighbouring_ids_are_spread() -> None:
    ids = [f"class-{number // 100}/{number:04d}" for number in range(1000)]
    split = split_of(ids, 0, 500, 100)
    by_class = Counter(id_.partition("/")[0] for id_ in ids if split.part(id_) == "learn")
    assert len(by_class) == 10 and min(by_class.values()) > 30


def test_places_are_numbers_json_and_parquet_can_hold() -> None:
    assert all(0 <= place(str(number), 7) < 1 << 63 for number in range(100))
    assert place("a", 0) == place("a", 0) != place("a", 1)


def test_nothing_left_to_test_is_refused_with_numbers_that_fit() -> None:
    with pytest.raises(ConfigError, match=r"has 30 readable images, .*15 \+ 10 \+ 5 leave none .*learn_images=10 "):
        split_of([str(number) for number in range(30)], 0, 15, 10, 5)
    assert split_of([str(number) for number in range(31)], 0, 15, 10, 5)


@given(st.integers(1, 2000), st.integers(1, 400))
def test_the_numbers_offered_fit(total: int, fewest: int) -> None:
    with pytest.raises(ConfigError) as caught:
        require_images(total, learn=total, validation=1, calibration=1, fewest=fewest)
    offered = dict(re.findall(r"--set search\.(\w+)_images=(\d+)", str(caught.value)))
    if offered:
        sizes = {part: int(n) for part, n in offered.items()}
        require_images(total, **sizes, fewest=fewest)
        assert sizes["calibration"] >= fewest and min(sizes.values()) >= 1
    else:
        assert "raise search.epsilon" in str(caught.value) and total < max(fewest, total // 3) + 4
