"""The digest of ids: blind to order, not to loss, doubling or exchange."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.engine.ids import IdDigest, check_ids, digest_files
from pipelines.errors import StageError

IDS = st.lists(st.text(), min_size=1, max_size=30)


@given(IDS, st.randoms(use_true_random=False), st.integers(0, 30))
def test_neither_order_nor_the_cut_matter(ids: list[str], random: object, cut: int) -> None:
    shuffled = list(ids)
    random.shuffle(shuffled)  # pyright: ignore[reportAttributeAccessIssue]
    assert IdDigest().add(ids) == IdDigest().add(shuffled[:cut]).add(shuffled[cut:])


@given(IDS, st.data())
def test_loss_doubling_and_exchange_are_seen(ids: list[str], data: st.DataObject) -> None:
    whole = IdDigest().add(ids)
    at = data.draw(st.integers(0, len(ids) - 1))
    other = data.draw(st.text().filter(lambda text: text != ids[at]))
    rest = ids[:at] + ids[at + 1 :]
    assert IdDigest().add(rest) != whole
    assert IdDigest().add([*ids, ids[at]]) != whole
    assert IdDigest().add([*rest, other]) != whole


def test_one_lost_and_another_doubled_is_seen() -> None:
    assert IdDigest().add(["a", "a", "c"]) != IdDigest().add(["a", "b", "c"])
    assert IdDigest().add(["x"] * 2) != IdDigest().add(["y"] * 2)


@given(IDS)
def test_a_digest_survives_json(ids: list[str]) -> None:
    digest = IdDigest().add(ids)
    assert IdDigest.from_dict(json.loads(json.dumps(digest.to_dict()))) == digest


def table(target: Path, **columns: list[str]) -> Path:
    pq.write_table(pa.table(columns), target, row_group_size=2)
    return target


def test_files_are_digested_together_or_by_a_column(tmp_path: Path) -> None:
    one = table(tmp_path / "1.parquet", id=["a", "b", "a"], condition=["x", "x", "y"])
    two = table(tmp_path / "2.parquet", id=["c", "b", "c"], condition=["x", "y", "y"])
    abc = IdDigest().add("abc")
    assert digest_files([one, two], split_by="condition") == {"x": abc, "y": abc}
    assert digest_files([one, two]) == {"": IdDigest().add("abacbc")}
    assert digest_files([]) == {}


def test_the_check_says_what_is_wrong_and_what_to_do() -> None:
    expected = IdDigest().add("abc")
    check_ids("learned_noise", expected, {"learned": expected, "permuted": expected})
    check_ids("ingest", IdDigest(), {})
    message = "learned_noise: expected each of 3 ids once for 'permuted', got 2 rows; .*remove"
    with pytest.raises(StageError, match=message):
        check_ids("learned_noise", expected, {"learned": expected, "permuted": IdDigest().add("ab")})
    with pytest.raises(StageError, match="reference: expected each of 3 ids once, got 3 rows with other or doubled"):
        check_ids("reference", expected, {"": IdDigest().add("aab")})
    with pytest.raises(StageError, match="reference: expected 3 ids, got none"):
        check_ids("reference", expected, {})
