"""Every command and program in the README does what it says there."""

from __future__ import annotations

import itertools
import json
import re
import shlex
from pathlib import Path

import pytest

from cluster import cli
from pipelines.configs.reading import load_config
from tests.pipelines.conftest import DemoRun
from tests.pipelines.driver import SMALL, Driver

REPOSITORY = Path(__file__).resolve().parents[3]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
COMMANDS = [line for kind, text in BLOCKS if kind == "sh" for line in text.splitlines() if line]
PROGRAMS = [text for kind, text in BLOCKS if kind == "python"]


def shown_after(command: str) -> list[str]:
    """The lines the README prints under a command."""
    for (_, text), (kind, printed) in itertools.pairwise(BLOCKS):
        if command in text.splitlines() and kind == "text":
            return printed.splitlines()
    return []


def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What `nullspace WORDS` prints, run in this process."""
    monkeypatch.setattr("sys.argv", ["nullspace", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code, capsys.readouterr().err
    return capsys.readouterr().out


def test_no_command_of_the_readme_is_left_untested() -> None:
    tested = {
        "make demo": "the Makefile's recipe is the command of `demo_run`",
        "make test": "this run",
        "nullspace kernel deit_tiny_patch16_224 --random": "test_kernel_command",
        "nullspace show photo.jpg --weights FILE": "commands/show/test_views.py, on a real photo too",
        "nullspace fool photo.jpg --like other.jpg --weights FILE": "commands/fool/test_fool.py",
        "nullspace explain photo.jpg --noise search --map gradient_weighted_attention --map grad_cam --weights FILE": (
            "commands/explain/test_explain.py"
        ),
        "nullspace run deit_tiny --set source.path=IMAGES --set source.labels=LABELS.csv --set models.0.weights=FILE": (
            "test_real_run.py, with these three set"
        ),
        "nullspace config show demo > my.yaml": "test_a_config_shown_can_be_run",
        "nullspace run my.yaml --workdir runs/my": "test_a_config_shown_can_be_run",
        "nullspace run demo --set visible_watermark.text=HELLO": "test_end_to_end.py",
        "nullspace run demo": "test_resume.py",
        "nullspace status runs/demo": "test_status_command",
        "nullspace ui runs/demo": "test_ui.py",
        "nullspace run demo --json": "demo_run",
        "nullspace leaderboard runs/demo -o site": "test_leaderboard_command",
        'nullspace watermark embed IMAGES marked --message "mine 2026" --weights FILE --key-file key.txt': (
            "commands/test_watermark.py, as are the next two"
        ),
        "nullspace watermark detect marked --weights FILE --key-file key.txt": "commands/test_watermark.py",
        "nullspace watermark visible IMAGES marked --text DRAFT --weights FILE": "commands/test_watermark.py",
        "nullspace submit demo --workdir /shared/runs/demo --address http://127.0.0.1:8265 --dry-run": (
            "test_submit_command; without --dry-run: tests/cluster/test_real_head.py"
        ),
    }
    assert set(COMMANDS) == set(tested)


@pytest.mark.parametrize(("target", "command"), [("demo", "nullspace run demo"), ("ui", "nullspace ui runs/demo")])
def test_make_runs_the_command_the_readme_names(target: str, command: str) -> None:
    recipe = re.search(rf"^{target}:.*\n\t(.*)$", (REPOSITORY / "Makefile").read_text(), flags=re.MULTILINE)
    assert recipe is not None
    assert command in recipe[1].replace("$(BIN)/", "")


def test_kernel_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    command = "nullspace kernel deit_tiny_patch16_224 --random"
    printed = call(monkeypatch, capsys, *shlex.split(command)[1:]).splitlines()
    shown = shown_after(command)
    assert len(shown) > 3
    assert set(shown) <= {line.rstrip() for line in printed}


def test_status_command(demo_run: DemoRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    printed = call(monkeypatch, capsys, "status", str(demo_run.workdir))
    for line in shown_after("nullspace status runs/demo"):
        assert line.strip() in printed


def test_leaderboard_command(
    demo_run: DemoRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    printed = call(monkeypatch, capsys, "leaderboard", str(demo_run.workdir), "-o", "site").splitlines()
    first, second = shown_after("nullspace leaderboard runs/demo -o site")
    assert printed == [re.sub(r"^\d+", SMALL["source.limit"], first), second]
    card = (tmp_path / "site" / "models" / "digits.html").read_text()
    assert "Visible watermark" in card and "spectrum-light.png" in card
    figures = json.loads((tmp_path / "site" / "leaderboard.json").read_text())["boards"][0]["models"][0]["figures"]
    learned = demo_run.results["models"]["digits"]["learned_noise"]["conditions"]["learned"]
    assert figures["Learned noise"]["value"] == learned["agreement"] and figures["Learned noise"]["n"] == learned["n"]


def test_submit_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (command,) = [line for line in COMMANDS if line.startswith("nullspace submit ")]
    printed = call(monkeypatch, capsys, *shlex.split(command)[1:]).splitlines()
    shown = shown_after(command)
    assert len(shown) > 1
    assert set(shown) <= set(printed)


@pytest.mark.ray
def test_a_config_shown_can_be_run(
    demo_run: DemoRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sets = [word for key, value in SMALL.items() for word in ("--set", f"{key}={value}")]
    mine = tmp_path / "my.yaml"
    mine.write_text(call(monkeypatch, capsys, "config", "show", "demo", *sets), encoding="utf-8")
    assert load_config(mine).fingerprint() == load_config("demo", sets[1::2]).fingerprint()
    with Driver(demo_run.workdir, config=str(mine), settings={}) as driver:
        assert driver.results()["models"] == demo_run.results["models"]
    assert "running" not in driver.stderr  # the config is the same, so every stage is reused


def test_the_program_that_loads_the_noise(
    demo_run: DemoRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (program,) = [text for text in PROGRAMS if "mlflow" in text]
    assert "sqlite:///runs/mlflow.db" in program
    exec(program.replace("runs/mlflow.db", str(demo_run.workdir.parent / "mlflow.db")), {})
    printed = capsys.readouterr().out
    assert "clean_prediction" in printed
    assert "noised_prediction" in printed


def test_the_program_for_a_notebook(capsys: pytest.CaptureFixture[str]) -> None:
    (program,) = [text for text in PROGRAMS if "patch_kernel" in text]
    exec(program, {})
    change = float(re.findall(r"tensor\((.*?)\)", capsys.readouterr().out)[0])
    assert 0 < change < 1e-4


def test_the_program_that_learns_noise(capsys: pytest.CaptureFixture[str]) -> None:
    (program,) = [text for text in PROGRAMS if "learn_noise" in text]
    exec(program, {})
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed] == ["learned", "permuted", "gaussian"]
    # In the unit of other images than it was learned on, whose tokens are a little longer or shorter.
    assert all(abs(float(line.split()[1]) - 0.5) < 0.02 for line in printed)
