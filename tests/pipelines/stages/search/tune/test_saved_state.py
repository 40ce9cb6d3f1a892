"""Sessions of Tune's state, whole and cut off by a kill.

That the names are Tune's own, `test_signals.py` shows: there a stopped search goes on from its state.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.stages.search.tune.saved_state import drop_cut_off

FILES = {"experiment_state": "json", "searcher-state": "pkl", "search_gen_state": "json", "callback-states": "pkl"}
FIRST, SECOND = "2026-11-27_20-05-44", "2026-11-27_20-07-48"


def written(folder: Path, session: str, *, count: int = 4) -> list[Path]:
    """The first `count` files of a session, in the order in which Tune writes them."""
    files = []
    for kind, suffix in [*FILES.items()][:count]:
        file = folder / f"{kind}-{session}.{suffix}"
        file.write_bytes(b'{"trial_data": []}' if kind == "experiment_state" else b"\x80\x05N.")
        files.append(file)
    return files


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


def test_a_whole_session_stays(tmp_path: Path) -> None:
    files = written(tmp_path, FIRST)
    assert drop_cut_off(tmp_path) and names(tmp_path) == {file.name for file in files}


@pytest.mark.parametrize("count", [1, 2, 3])
def test_after_a_kill_between_two_files_the_session_before_counts(tmp_path: Path, count: int) -> None:
    before = written(tmp_path, FIRST)
    written(tmp_path, SECOND, count=count)
    assert drop_cut_off(tmp_path) and names(tmp_path) == {file.name for file in before}


@pytest.mark.parametrize("cut", range(4))
def test_a_file_cut_off_in_the_only_session_leaves_nothing_to_go_on_from(tmp_path: Path, cut: int) -> None:
    file = written(tmp_path, FIRST)[cut]
    file.write_bytes(file.read_bytes()[:-1])
    (tmp_path / "tuner.pkl").write_bytes(b"kept")
    assert not drop_cut_off(tmp_path) and names(tmp_path) == {"tuner.pkl"}


def test_a_search_that_saved_nothing_has_no_state(tmp_path: Path) -> None:
    assert not drop_cut_off(tmp_path) and not drop_cut_off(tmp_path / "absent")
