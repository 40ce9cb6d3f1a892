"""The plan: what a config means to do, what changes when a key does, and that all places know the same questions."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pipelines.configs.pipeline import PipelineConfig
from pipelines.configs.reading import load_config
from pipelines.engine.stage import Stage
from pipelines.errors import ConfigError
from pipelines.stages.branch import Means
from pipelines.workflow.order import REPORTS
from pipelines.workflow.plan import EVALUATIONS, Plan, make_plan, require_stages, with_needs
from tests.pipelines import tiny

LABEL = tiny.spec().label
QUESTIONS = [evaluation.name for evaluation in EVALUATIONS]
STAGES = ["reference", "kernel", "search", *QUESTIONS]


def planned(*overrides: str) -> Plan:
    nothing: Any = SimpleNamespace()
    config = load_config("demo", ["transfer={}", *overrides])  # null unless it is asked for
    return make_plan(config, [tiny.facts()], "digest", Means(nothing, nothing, nothing))


def branch(plan: Plan) -> dict[str, Stage]:
    return dict(plan.branches[LABEL])


def fingerprints(*overrides: str) -> dict[str, str]:
    plan = planned(*overrides)
    (ingest,) = plan.ingests.values()
    return {name: stage.fingerprint for name, stage in {"ingest": ingest, **branch(plan)}.items()}


def test_stages_are_in_the_order_they_are_done() -> None:
    plan = planned()
    assert list(branch(plan)) == STAGES
    assert [stage.name for stage in plan.in_order()] == ["ingest", *STAGES]
    done = set(plan.ingests)
    for stage in plan.in_order():
        assert {other.place for other in stage.inputs.values()} <= done | {""}
        done.add(stage.place)
    for name, stage in branch(plan).items():
        assert name == stage.name and stage.inputs["ingest"] is next(iter(plan.ingests.values()))


@pytest.mark.parametrize(
    ("override", "changed"),
    [
        ("payload.distortions=[none,jpeg_75]", ["payload"]),
        ("visible_watermark.text=OTHER", ["visible_watermark"]),
        ("kernel_noise.rms=0.7", ["kernel_noise"]),
        ("search.trials=9", ["search", "learned_noise", "attribution", "transfer"]),
        ("kernel.rtol=1e-5", ["kernel", "search", *QUESTIONS]),
        ("ingest.shard_images=7", ["ingest", *STAGES]),
        ("seed=1", ["search", *QUESTIONS]),
        *[(f"{name}.batch_images=3", []) for name in ("reference", *QUESTIONS)],
        *[("search.max_concurrent=1", []), ("resources.workers=1", []), ("device=cpu", [])],
        ("ingest.max_error_fraction=0.5", []),
    ],
)
def test_a_key_changes_its_own_stage_and_what_reads_it(override: str, changed: list[str]) -> None:
    before, after = fingerprints(), fingerprints(override)
    assert [name for name in before if before[name] != after[name]] == changed


def test_a_section_that_is_null_is_not_in_the_plan() -> None:
    for name in QUESTIONS:
        assert list(branch(planned(f"{name}=null"))) == [other for other in STAGES if other != name]
    without = planned("search=null", "learned_noise=null")
    assert list(branch(without)) == [name for name in STAGES if name not in ("search", "learned_noise")]
    (ingest,) = without.ingests.values()
    ingest.accept({"images": 1, "errors": 0, "reasons": {}})  # no search asks for more


def test_only_gives_a_stage_with_what_it_needs() -> None:
    plan = planned()
    assert list(branch(plan.only(["payload"]))) == ["reference", "kernel", "payload"]
    assert list(branch(plan.only(["learned_noise"]))) == ["reference", "kernel", "search", "learned_noise"]
    assert list(branch(plan.only(["payload", "kernel_noise"]))) == ["reference", "kernel", "kernel_noise", "payload"]
    assert plan.only(["kernel"]).ingests == plan.ingests
    assert list(branch(plan.only(STAGES))) == STAGES


def test_only_keeps_what_was_done_before() -> None:
    found = planned().only(["kernel_noise"], also=lambda stage: stage.name == "learned_noise")
    assert list(branch(found)) == ["reference", "kernel", "search", "kernel_noise", "learned_noise"]


def test_a_stage_that_the_run_has_not_is_named() -> None:
    with pytest.raises(ConfigError, match="--only 'pyload': this run has no such stage; it has reference, kernel, sea"):
        require_stages(load_config("demo"), ["payload", "pyload"])
    with pytest.raises(ConfigError, match="--only 'payload': this run has no such stage; it has .*visible_watermark"):
        require_stages(load_config("demo", ["payload=null"]), ["payload"])


@pytest.mark.parametrize("name", ["ingest", "report"])
def test_what_is_made_in_every_run_is_no_choice(name: str) -> None:
    with pytest.raises(ConfigError, match=f"--only {name}: it is made in every run; name one of reference, kernel"):
        require_stages(load_config("demo"), [name])


def test_needs_are_followed_to_their_end() -> None:
    names = {stage.name for stage in with_needs(branch(planned())["learned_noise"])}
    assert names == {"learned_noise", "search", "kernel", "reference", "ingest"}


def test_every_question_has_its_section_and_its_place_on_the_page() -> None:
    """A question is added in three places: a field of the config, a line in the plan, one in the order of the page."""
    names = [evaluation.name for evaluation in EVALUATIONS]
    assert len(set(names)) == len(names)
    reports = {report.name for report in REPORTS}
    assert len(reports) == len(REPORTS)
    for evaluation in EVALUATIONS:
        default = PipelineConfig.model_fields[evaluation.name].get_default(call_default_factory=True)
        assert isinstance(default, evaluation.settings) or (default is None and evaluation.name == "transfer")
        assert PipelineConfig.model_validate({**MINIMAL, evaluation.name: None}), "null: not run"
        assert evaluation.name in reports
    assert reports <= {*names, "kernel", "search"}


MINIMAL = {"name": "mine", "source": {"kind": "digits"}, "models": [{"name": "nullspace_digits_vit"}]}
