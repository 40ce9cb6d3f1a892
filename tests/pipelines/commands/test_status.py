"""Status: what is finished, what is not, and how the last run ended."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.commands.status import status
from pipelines.configs.pipeline import PipelineConfig
from pipelines.engine.progress import Progress
from pipelines.engine.stage import FAILED, PROGRESS, Stage, do_stage
from pipelines.engine.workers.shard_workers import Workers
from pipelines.errors import WorkdirError
from pipelines.files import write_json, write_text
from pipelines.stages.ingest.manifest import MANIFEST
from pipelines.workflow import workfolder
from pipelines.workflow.workfolder import planned
from tests.pipelines.driver import nullspace

CONFIG = PipelineConfig.model_validate(
    {"name": "mine", "source": {"kind": "digits"}, "models": [{"name": "nullspace_digits_vit"}]}
)


@pytest.fixture
def workdir(tmp_path: Path) -> Path:
    with workfolder.opened(tmp_path, CONFIG):
        workfolder.update_run(tmp_path, experiment="mine", run_id="7", state="running")
    return tmp_path


def partial(workdir: Path, name: str) -> Path:
    folder = workdir / "stages" / f"{name}-0123456789ab.partial"
    folder.mkdir()
    return folder


def test_a_folder_nothing_ran_in_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WorkdirError, match="is not a work folder: it has no run.json; give the --workdir of a run"):
        status(tmp_path)
    with pytest.raises(WorkdirError, match="is not a work folder"):
        status(tmp_path / "nowhere")


def test_a_run_that_did_not_record_its_end_was_killed(workdir: Path) -> None:
    assert status(workdir)["state"] == "killed"
    with workfolder.opened(workdir, CONFIG):
        assert status(workdir)["state"] == "running"
    for ended in ("finished", "failed", "killed"):
        workfolder.update_run(workdir, state=ended)
        assert status(workdir)["state"] == ended
    with workfolder.opened(workdir, CONFIG):
        assert status(workdir)["state"] == "running", "held again, before it says so itself"
    assert (status(workdir)["experiment"], status(workdir)["run_id"]) == ("mine", "7")


def test_finished_stages_say_how_long_they_took(workdir: Path) -> None:
    stage = Stage("kernel", 1, {}, {}, lambda context: {}, branch="deit-tiny")
    made = do_stage(stage, workdir, {}, Progress(), "run", lambda: Workers(1, 1, 0))
    (found,) = status(workdir)["stages"]
    assert (found["stage"], found["state"]) == ("kernel--deit-tiny", "done")
    assert found["folder"] == str(made.folder) and found["seconds"] == pytest.approx(made.seconds, abs=1e-3)


def test_unfinished_stages_say_how_far_they_are(workdir: Path) -> None:
    ingest = partial(workdir, "ingest--32x32")
    table = pa.table({"id": np.arange(10).astype(str)})
    pq.write_table(table, ingest / MANIFEST, row_group_size=4)
    for name in ("shard-000000", "errors-000000", "shard-000001"):
        pq.write_table(table, ingest / f"{name}.parquet")
    write_text(partial(workdir, "reference--deit") / "rows-000000.parquet", "")
    by = {found["stage"]: found for found in status(workdir)["stages"]}
    assert (by["ingest--32x32"]["state"], by["ingest--32x32"]["shards"], by["ingest--32x32"]["of"]) == (
        "unfinished",
        2,
        3,
    )
    assert (by["reference--deit"]["shards"], by["reference--deit"]["of"]) == (1, None)


def test_a_stage_under_way_says_what_its_progress_line_says(workdir: Path) -> None:
    for name, progress in {
        "reference--a": {"done": 64, "of": 120, "unit": "images"},
        "search--a": {"done": 1, "of": 8, "unit": "trials", "note": "trial 5 step 40"},
        "visible_watermark--a": {"done": 0, "of": 9, "unit": "images"},
    }.items():
        write_json(partial(workdir, name) / PROGRESS, progress)
    lines = [line.split(None, 2) for line in nullspace("status", str(workdir)).out.splitlines()[1:]]
    assert lines == [
        ["unfinished", "reference--a", "64 of 120 images"],
        ["unfinished", "search--a", "1 of 8 trials, trial 5 step 40"],
        ["unfinished", "visible_watermark--a", "0 of 9 images"],
    ]


def test_a_stage_that_failed_says_why_in_one_line(workdir: Path) -> None:
    workfolder.update_run(workdir, state="failed", error="the run's own reason")
    partial(workdir, "reference--a")
    assert nullspace("status", str(workdir)).out.splitlines()[1] == "error: the run's own reason"
    write_text(workdir / "stages" / f"reference--a-0123456789ab{FAILED}", "out of [memory]")
    assert nullspace("status", str(workdir)).out.splitlines()[1:] == ["  failed     reference--a  out of [memory]"]
    assert status(workdir)["error"] == "the run's own reason"
    with workfolder.opened(workdir, CONFIG):
        assert "error" not in status(workdir), "it runs again"


def test_a_record_in_a_partial_folder_does_not_count_as_done(workdir: Path) -> None:
    write_text(partial(workdir, "kernel--deit") / "stage.json", "{}")  # killed between the record and the renaming
    assert [found["state"] for found in status(workdir)["stages"]] == ["unfinished"]


def test_reports_are_named_when_they_are_there(workdir: Path) -> None:
    assert "report.html" not in status(workdir)
    write_text(workdir / "report.html", "")
    assert status(workdir)["report.html"] == str(workdir / "report.html") and "results.json" not in status(workdir)


def test_stages_removed_by_hand_are_no_trouble(workdir: Path) -> None:
    (workdir / "stages").rmdir()
    assert status(workdir)["stages"] == []


def test_stages_come_in_the_order_of_the_work_with_those_not_begun(workdir: Path) -> None:
    ingest = Stage("ingest", 1, {}, {}, lambda context: {}, branch="32x32")
    stages = [ingest] + [
        Stage(name, 1, {}, {}, lambda context: {}, branch=label)
        for label in ("vit", "deit")
        for name in ("reference", "kernel", "search", "learned_noise", "payload")
    ]
    for stage in (stages[2], ingest):
        do_stage(stage, workdir, {}, Progress(), "run", lambda: Workers(1, 1, 0))
    stages[3].folder(workdir).with_suffix(".partial").mkdir()
    old = partial(workdir, "payload--gone").name.removesuffix(".partial").rpartition("-")[0]
    workfolder.update_run(workdir, plan=[*planned(stages), {"stage": "report", "folder": ""}])
    found = status(workdir)
    assert [each["stage"] for each in found["stages"]] == [*(stage.key for stage in stages), "report", old]
    states = {each["stage"]: each["state"] for each in found["stages"]}
    assert (states["ingest--32x32"], states["kernel--vit"], states["search--vit"]) == ("done", "done", "unfinished")
    assert states["reference--vit"] == states["report"] == "not begun"
    assert [each["stage"] for each in found["stages"] if each.get("earlier")] == [old]
    assert "plan" not in found
    lines = nullspace("status", str(workdir)).out.splitlines()
    assert (
        lines[1].split() == ["done", "ingest--32x32", *lines[1].split()[2:]]
        and "  not begun  reference--vit" in lines[2]
    )
    assert lines[-2:] == ["of earlier runs:", f"  unfinished {old}  "]


def test_reports_that_were_replaced_are_marked(workdir: Path) -> None:
    first, second, third = (Stage("report", 1, {"trials": number}, {}, lambda context: {}) for number in range(3))
    for made_at, stage in enumerate((first, second)):
        made = do_stage(stage, workdir, {}, Progress(), "run", lambda: Workers(1, 1, 0))
        os.utime(made.folder / "stage.json", (made_at, made_at))

    def replaced(plan: list[dict[str, str]]) -> dict[str, bool]:
        workfolder.update_run(workdir, plan=plan)
        reports = [each for each in status(workdir)["stages"] if "folder" in each]
        return {Path(each["folder"]).name: "replaced" in each for each in reports}

    under_way = [{"stage": "report", "folder": ""}]
    assert replaced(planned([second])) == {second.place: False, first.place: True}
    assert replaced(planned([first])) == {first.place: False, second.place: True}, "settings of before, once more"
    assert replaced(under_way) == replaced(planned([third])) == replaced([]) == {first.place: True, second.place: False}
    workfolder.update_run(workdir, plan=planned([second]))
    *_, heading, line = nullspace("status", str(workdir)).out.splitlines()
    assert heading == "of earlier runs:" and line.endswith(" s, replaced by a later one")


def test_a_folder_without_a_plan_is_listed_in_the_order_of_the_work_too(workdir: Path) -> None:
    names = ["ingest--32x32", "reference--a", "kernel--a", "learned_noise--a", "search--b", "payload--b", "report"]
    # In a branch, what was worked on last comes last; an ingest is before all, a report after all, whatever their time.
    for second, name in enumerate([names[-1], *names[1:-1], names[0]]):
        folder = partial(workdir, name)
        os.utime(folder, (second, second))
    assert [found["stage"] for found in status(workdir)["stages"]] == names
