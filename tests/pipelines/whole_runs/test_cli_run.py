"""The command line: help, completion, and the commands that change nothing, for people and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from pipelines.configs.pipeline import PipelineConfig
from pipelines.workflow import workfolder
from tests.pipelines.conftest import DemoRun
from tests.pipelines.driver import SMALL, STAGES, nullspace

DIGITS = "nullspace_digits_vit"


def plain(text: str) -> str:
    """Help without its boxes and line ends."""
    return " ".join(text.replace("│", " ").split())


# ---- help --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "teaches"),
    [
        (
            [],
            ["run Run the whole pipeline", "kernel The exact nullspace", "status How far", "ui Open MLflow", "config"],
        ),
        (
            ["run"],
            ["--set KEY=VALUE", "The same command after a kill goes on", "Example: nullspace run demo", "--json"],
        ),
        (["kernel"], ["--random", "--weights", "Example: nullspace kernel vit_small_patch32_224 --random"]),
        (["zoo"], ["--random", "--pretrained", "Example: nullspace zoo 'deit*' --random --format markdown"]),
        (["status"], ["Example: nullspace status runs/demo", "Work folder of a run"]),
        (["config", "show"], ["every default filled in", "Example: nullspace config show demo --set search.trials=4"]),
        (["ui"], ["Example: nullspace ui runs/demo", "--port"]),
    ],
    ids=lambda value: " ".join(value) or "nullspace" if isinstance(value, list) else None,
)
def test_help_teaches(command: list[str], teaches: list[str]) -> None:
    answer = nullspace(*command, "--help")
    assert answer.code == 0 and not answer.err
    for words in teaches:
        assert words in plain(answer.out)


def test_a_command_that_is_not_there_says_where_help_is() -> None:
    answer = nullspace("rum")
    assert (
        answer.is_one_error
        and answer.err == "error: no such command 'rum' (did you mean 'run'?); see nullspace --help\n"
    )


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["run"], "missing argument 'CONFIG'; see nullspace run --help"),
        (["run", "demo", "--trials=3"], "no such option: --trials; see nullspace run --help"),
        (["ui", "runs", "--port", "x"], "invalid value for '--port'"),
        (["watermark", "embd"], "no such command 'embd' (did you mean 'embed'?); see nullspace watermark --help"),
        (["kernel"], "missing argument 'MODEL'; see nullspace kernel --help"),
        (["submit"], "missing argument 'CONFIG'; see nullspace submit --help"),
    ],
)
def test_wrong_words_are_one_line_like_any_other_error(words: list[str], expected: str) -> None:
    answer = nullspace(*words)
    assert answer.is_one_error and expected in answer.err and answer.err.count("\n") == 1, answer.err


def test_no_words_at_all_show_the_help() -> None:
    answer = nullspace()
    assert answer.code == 2 and "Usage: nullspace" in answer.out


def test_the_shell_can_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shellingham.detect_shell", lambda: ("bash", "/bin/bash"))  # else that of who runs the tests
    script = nullspace("--show-completion")
    assert script.code == 0 and "_NULLSPACE_COMPLETE=complete_bash" in script.out
    monkeypatch.setenv("_NULLSPACE_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "nullspace st")
    monkeypatch.setenv("COMP_CWORD", "1")
    assert nullspace().out.split() == ["status", "stop"]


# ---- commands that only look -------------------------------------------------------------------------------------


def test_kernel_of_a_random_model_as_json() -> None:
    answer = nullspace("kernel", "vit_tiny_patch16_224", "--random", "--json")
    content = json.loads(answer.out)
    assert answer.code == 0 and not answer.err
    assert (content["patch_dim"], content["embed_dim"], content["rank"], content["nullity"]) == (768, 192, 191, 577)
    assert content["modulo_shift"]


def test_kernel_for_people_says_the_same() -> None:
    lines = dict(line.split(None, 1) for line in nullspace("kernel", DIGITS).out.splitlines())
    content = json.loads(nullspace("kernel", DIGITS, "--json").out)
    assert lines.keys() == content.keys()
    assert lines["nullity"] == "673" and lines["gap"].strip() == "none: no singular value was left out"
    assert lines["modulo_shift"] == "yes" and lines["sigma_max"].strip() == f"{content['sigma_max']:.3g}"
    assert content["gap"] is None and len(str(content["sigma_max"])) > 10, "programs get every digit"


def test_config_show_fills_in_defaults_and_takes_overrides() -> None:
    shown = nullspace("config", "show", "demo", "--set", "search.trials=4")
    content = yaml.safe_load(shown.out)
    assert content["search"]["trials"] == 4 and content["search"]["batch_images"] > 0
    assert PipelineConfig.model_validate(content).name == "demo"
    assert json.loads(nullspace("config", "show", "demo", "--set", "search.trials=4", "--json").out) == content


@pytest.mark.slow
@pytest.mark.ray
def test_status_of_a_finished_run(demo_run: DemoRun) -> None:
    content = json.loads(nullspace("status", str(demo_run.workdir), "--json").out)
    assert content["experiment"] == "demo" and content["state"] == "finished"
    assert content["run_id"] == demo_run.results["run"]["run_id"]
    assert sorted(stage["stage"].partition("--")[0] for stage in content["stages"]) == sorted(STAGES)
    assert {stage["state"] for stage in content["stages"]} == {"done"}
    assert all(Path(content[name]).is_file() for name in ("report.html", "results.json"))
    text = nullspace("status", str(demo_run.workdir)).out
    assert text.startswith("demo: finished") and text.count("  done ") == len(STAGES)


@pytest.mark.slow
@pytest.mark.ray
def test_a_dry_run_says_what_is_reused_and_what_is_to_do(demo_run: DemoRun, tmp_path: Path) -> None:
    sets = [word for key, value in SMALL.items() for word in ("--set", f"{key}={value}")]
    before = sorted(demo_run.workdir.rglob("*"))
    words = ["run", "demo", "--dry-run", "--workdir", str(demo_run.workdir), *sets]
    after = json.loads(nullspace(*words, "--json").out)
    assert [stage["stage"].partition("--")[0] for stage in after] == list(STAGES)
    assert {stage["state"] for stage in after} == {"reused"} and all(Path(stage["folder"]).is_dir() for stage in after)
    given = {
        stage["stage"]: stage["seconds"] for stage in json.loads(nullspace("status", words[4], "--json").out)["stages"]
    }
    assert {stage["stage"]: stage["seconds"] for stage in after} == given
    changed = json.loads(nullspace(*words, "--set", "kernel_noise.examples=3", "--json").out)
    to_do = {stage["stage"].partition("--")[0]: stage["folder"] for stage in changed if stage["state"] == "to do"}
    assert (
        set(to_do) == {"kernel_noise", "report"}
        and to_do["report"] is None
        and not Path(to_do["kernel_noise"]).exists()
    )
    assert sorted(demo_run.workdir.rglob("*")) == before


def test_a_dry_run_before_the_first_makes_nothing(tmp_path: Path) -> None:
    less = [
        word for name in ("attribution", "adversarial", "corruption") for word in ("--set", f"{name}={SMALL[name]}")
    ]
    answer = nullspace("run", "demo", "--workdir", str(tmp_path / "work"), "--dry-run", *less)
    lines = [line.split(None, 2) for line in answer.out.splitlines()]
    assert answer.code == 0 and not answer.err
    assert [line[:2] for line in lines] == [["to", "do"]] * len(STAGES)
    assert str(tmp_path / "work" / "stages" / "kernel_noise--digits-") in answer.out
    assert not [*tmp_path.iterdir()]
    other = tmp_path / "other"
    other.mkdir()
    workfolder.update_run(other, experiment="mine")
    assert "choose another --workdir" in nullspace("run", "demo", "--dry-run", "--workdir", str(other)).err
