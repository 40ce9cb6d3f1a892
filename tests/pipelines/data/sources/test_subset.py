"""A limit on the number of images: the same ones each time, from every class."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.data.sources import Record
from pipelines.data.sources.record import InOnePiece, digest_of
from pipelines.data.sources.subset import Subset
from tests.pipelines.data.sources.made import classes, listed, opened


def test_a_limit_takes_the_same_images_spread_over_the_classes() -> None:
    source, part = opened(kind="digits"), opened(kind="digits", limit=200)
    chosen = listed(part)
    assert len(chosen) == 200 and chosen.items() <= listed(source).items()
    assert min(Counter(chosen.values()).values()) > 8
    assert listed(opened(kind="digits", limit=200)) == chosen
    assert listed(opened(kind="digits", limit=200, seed=1)) != chosen
    assert set(listed(opened(kind="digits", limit=50))) < set(chosen)
    assert part.read(next(part.records())) == source.read(next(part.records()))


def test_a_limit_above_the_number_of_images_takes_all(tmp_path: Path) -> None:
    assert len(listed(opened(classes(tmp_path), limit=99))) == 4


class Numbers(InOnePiece):
    """A source of ids only."""

    def __init__(self, ids: list[int]) -> None:
        self.ids = ids

    def records(self):
        return (Record(str(n), -1, "") for n in self.ids)

    def read(self, record: Record) -> bytes:
        return record.id.encode()

    def digest(self) -> str:
        return digest_of(self.ids)


@settings(max_examples=50, deadline=None)
@given(ids=st.lists(st.integers(), unique=True, min_size=1), limit=st.integers(1, 20), seed=st.integers(0, 9))
def test_a_subset_does_not_depend_on_the_order_and_keeps_it(ids: list[int], limit: int, seed: int) -> None:
    chosen = [record.id for record in Subset(Numbers(ids), limit, seed).records()]
    assert len(chosen) == min(limit, len(ids))
    assert chosen == [str(n) for n in ids if str(n) in chosen]
    assert set(chosen) == {record.id for record in Subset(Numbers(ids[::-1]), limit, seed).records()}
