"""A stage: what its fingerprint stands for, and a folder that is whole or marked as partial."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.engine.progress import Progress
from pipelines.engine.stage import RECORD, Context, Done, Stage, do_stage, find_done
from pipelines.engine.workers.shard_workers import Workers
from pipelines.errors import StageError
from pipelines.files import read_json, write_json, write_text


def nothing(context: Context) -> dict[str, Any]:
    return {}


def stage(make: Callable[[Context], dict[str, Any]] = nothing, **given: Any) -> Stage:
    return Stage(**{"name": "kernel", "version": 1, "settings": {"rtol": None}, "inputs": {}, "make": make, **given})


def test_the_fingerprint_depends_on_settings_inputs_and_version() -> None:
    first = stage(name="ingest")
    base = stage(inputs={"ingest": first})
    others = [
        stage(name="reference", inputs={"ingest": first}),
        stage(version=2, inputs={"ingest": first}),
        stage(settings={"rtol": 1e-3}, inputs={"ingest": first}),
        stage(settings={"rtol": None, "more": 1}, inputs={"ingest": first}),
        stage(inputs={}),
        stage(inputs={"ingest": stage(name="ingest", version=2)}),
        stage(inputs={"other": first}),
    ]
    assert len({base.fingerprint, *(other.fingerprint for other in others)}) == 1 + len(others)


def test_the_fingerprint_depends_on_nothing_else() -> None:
    one, two = stage(name="a"), stage(name="b")
    base = stage(settings={"x": 1, "y": 2}, inputs={"a": one, "b": two})
    turned = stage(lambda context: {"x": 1}, settings={"y": 2, "x": 1}, inputs={"b": two, "a": one}, branch="m")
    assert base.fingerprint == turned.fingerprint


def test_folders_are_named_by_stage_branch_and_fingerprint(tmp_path: Path) -> None:
    plain, branch = stage(), stage(branch="deit")
    assert plain.folder(tmp_path) == tmp_path / "stages" / f"kernel-{plain.fingerprint[:12]}"
    assert branch.folder(tmp_path) == tmp_path / "stages" / f"kernel--deit-{branch.fingerprint[:12]}"


def done(stage: Stage, workdir: Path) -> Done:
    return do_stage(stage, workdir, {}, Progress(), "run", lambda: Workers(1, 1, 0))


def test_a_stage_works_in_a_partial_folder_that_becomes_its_own(tmp_path: Path) -> None:
    seen = []

    def make(context: Context) -> dict[str, Any]:
        seen.append(context.folder)
        assert context.run_id == "run"
        write_text(context.folder / "output", "whole")
        return {"nullity": 3}

    one = stage(make, branch="deit", inputs={})
    made = done(one, tmp_path)
    assert made.folder == one.folder(tmp_path) and not made.reused and made.result == {"nullity": 3}
    assert seen == [made.folder.with_name(made.folder.name + ".partial")] and not seen[0].exists()
    assert (made.folder / "output").read_text() == "whole"
    content = read_json(made.folder / RECORD)
    assert content["fingerprint"] == one.fingerprint and content["settings"] == {"rtol": None}
    assert (content["stage"], content["branch"], content["version"], content["inputs"]) == ("kernel", "deit", 1, {})


def test_a_failure_leaves_the_partial_folder_for_the_next_attempt(tmp_path: Path) -> None:
    def fails(context: Context) -> dict[str, Any]:
        write_text(context.folder / "half", "first")
        raise RuntimeError("stopped")

    def goes_on(context: Context) -> dict[str, Any]:
        return {"found": (context.folder / "half").read_text()}

    one = stage(fails)
    with pytest.raises(RuntimeError, match="stopped"):
        done(one, tmp_path)
    assert find_done(one, tmp_path) is None and not one.folder(tmp_path).exists()
    assert [path.name for path in (tmp_path / "stages").iterdir()] == [f"{one.folder(tmp_path).name}.partial"]
    assert done(stage(goes_on), tmp_path).result == {"found": "first"}


def test_a_finished_stage_is_found_by_its_fingerprint_alone(tmp_path: Path) -> None:
    assert find_done(stage(), tmp_path) is None
    made = done(stage(lambda context: {"n": 1}), tmp_path)
    found = find_done(stage(), tmp_path)
    assert found is not None and found.reused and (found.folder, found.result) == (made.folder, {"n": 1})
    assert find_done(stage(version=2), tmp_path) is None


def test_a_folder_without_a_record_is_made_again(tmp_path: Path) -> None:
    made = done(stage(), tmp_path)
    (made.folder / RECORD).unlink()
    write_text(made.folder / "rest", "of a removal by hand")
    assert find_done(stage(), tmp_path) is None
    assert [path.name for path in done(stage(), tmp_path).folder.iterdir()] == [RECORD]


def test_a_record_of_another_fingerprint_is_refused(tmp_path: Path) -> None:
    made = done(stage(), tmp_path)
    write_json(made.folder / RECORD, {**read_json(made.folder / RECORD), "fingerprint": "0" * 64})
    with pytest.raises(StageError, match="says another fingerprint than its folder's name; remove .* and run again"):
        find_done(stage(), tmp_path)


def test_a_result_that_is_no_json_leaves_the_stage_unfinished(tmp_path: Path) -> None:
    one = stage(lambda context: {"value": float("nan")})
    with pytest.raises(ValueError, match="not JSON compliant"):
        done(one, tmp_path)
    assert find_done(one, tmp_path) is None
