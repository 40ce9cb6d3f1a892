"""What may stand in one table, and what stands apart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import WorkdirError
from pipelines.leaderboard.boards import ACCURACY, boards_of
from pipelines.leaderboard.entries import read_entries
from pipelines.wording import MISSING
from tests.pipelines.report.results import BLIND, SEEING

MakeRun = Callable[..., Path]


def test_models_of_two_runs_stand_in_one_table_with_their_intervals(run: MakeRun) -> None:
    (board,) = boards_of(read_entries([run("one"), run("two") / "results.json"]))
    assert [row.name for row in board.rows] == [
        f"{BLIND} (one)",
        f"{SEEING} (one)",
        f"{BLIND} (two)",
        f"{SEEING} (two)",
    ]
    titles = [column.title for column in board.columns]
    assert titles[:2] == [ACCURACY, "Nullity"] and len(titles) == len(set(titles)), "one column for equal settings"
    cells = dict(zip(titles, board.rows[0].cells, strict=True))
    assert cells["Learned noise"].text == "95.3 %" and cells["Learned noise"].n == 1797
    figure = cells["Learned noise"].figure
    assert figure is not None and (figure.value, figure.low) == (0.953, pytest.approx(0.942))
    assert cells["Relative norm"].figure is not None and cells["Relative norm"].figure.value == 0.82
    skipped = dict(zip(titles, board.rows[1].cells, strict=True))["Kernel noise"]
    assert skipped.figure is None and skipped.text == MISSING


@pytest.mark.parametrize(
    "other",
    [
        lambda results: results["run"].update(seed=1),
        lambda results: results["data"]["preprocessings"]["small"].update(contents="other"),
        lambda results: results["data"]["preprocessings"]["small"].update(images=1796),
    ],
    ids=["seed", "images", "number of images"],
)
def test_other_images_stand_in_a_table_of_their_own(run: MakeRun, other: Callable[[dict[str, Any]], None]) -> None:
    boards = boards_of(read_entries([run("one"), run("two", other)]))
    assert [[row.entry.run["experiment"] for row in board.rows] for board in boards] == [["one"] * 2, ["two"] * 2]


def test_figures_made_with_other_settings_stand_in_a_column_of_their_own(run: MakeRun) -> None:
    def change(results: dict[str, Any]) -> None:
        results["run"]["settings"]["search"]["epsilon"] = 0.1

    (board,) = boards_of(read_entries([run("one"), run("two", change)]))
    notes = {column.title: column.note for column in board.columns}
    assert [notes[f"Learned noise ({n})"] for n in (1, 2)] == ["search.epsilon = 0.05", "search.epsilon = 0.1"]
    assert notes["Kernel noise"] == "", "it does not read the search"
    first, second = (board.column(f"Learned noise ({number})") for number in (1, 2))
    assert first is not None and second is not None
    assert [cell.text for cell in first] == ["95.3 %", "95.3 %", MISSING, MISSING]
    assert [cell.text for cell in second] == [MISSING, MISSING, "95.3 %", "95.3 %"]


def test_another_version_of_a_stage_is_another_column(run: MakeRun) -> None:
    def change(results: dict[str, Any]) -> None:
        for stage in results["run"]["stages"]:
            stage["version"] += stage["name"] == "payload"

    (board,) = boards_of(read_entries([run("one"), run("two", change)]))
    notes = {column.title: column.note for column in board.columns if column.note}
    assert notes == {"Messages read (1)": "payload.version = 1", "Messages read (2)": "payload.version = 2"}


def test_what_cannot_be_compared_is_refused(run: MakeRun, tmp_path: Path) -> None:
    def refused(path: Path) -> str:
        with pytest.raises(WorkdirError) as error:
            read_entries([path])
        return str(error.value)

    older = run("older", lambda results: results.pop("protocol"))
    assert "protocol None" in refused(older) and "start the same run again" in refused(older)
    assert "results.json is not there" in refused(tmp_path) and "nullspace status" in refused(tmp_path)
    (tmp_path / "list.json").write_text("[1]")
    assert "has no models of a run" in refused(tmp_path / "list.json")
    (tmp_path / "cut.json").write_text('{"models": {')
    assert "cannot read" in refused(tmp_path / "cut.json")
    one = run("one")
    with pytest.raises(WorkdirError, match="given twice"):
        read_entries([one, one / "results.json"])


def test_runs_of_one_experiment_are_told_apart_by_their_folders(run: MakeRun, tmp_path: Path) -> None:
    def same(results: dict[str, Any]) -> None:
        results["run"]["experiment"] = "demo"

    (board,) = boards_of(read_entries([run("first", same), run("second", same)]))
    assert [row.name for row in board.rows][::2] == [f"{BLIND} (first)", f"{BLIND} (second)"]
    (alone,) = boards_of(read_entries([run("third", same)]))
    assert [row.name for row in alone.rows] == [BLIND, SEEING]
