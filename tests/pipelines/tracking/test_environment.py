"""What is recorded about where a result was made."""

from __future__ import annotations

import getpass
import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.tracking.environment import environment, git_state, installed_version, run_tags, version_lines

GIT = ("git", "-c", "user.name=a", "-c", "user.email=a@b")


def test_facts_are_plain_json_and_complete() -> None:
    facts = json.loads(json.dumps(environment("cpu")))
    assert facts["python"]["version"] == platform.python_version()
    assert facts["versions"]["torch"] and facts["host"]["cpus"] >= 1
    assert facts["device"]["kind"] == "cpu"
    assert environment()["device"] is None


def test_torch_is_not_imported_without_a_device() -> None:
    code = "import sys; from pipelines.tracking.environment import environment; environment()"
    code += "; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3]).returncode == 0


def test_commit_and_uncommitted_changes(tmp_path: Path) -> None:
    file = tmp_path / "code.py"
    file.write_text("1")
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*GIT, *command], cwd=tmp_path, check=True)
    state = git_state(file)
    assert len(state["commit"]) == 40 and state["dirty"] is False
    file.write_text("2")
    assert git_state(file)["dirty"] is True


def test_a_file_git_does_not_track_has_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subprocess.run([*GIT, "init", "-q"], cwd=tmp_path, check=True)
    (tmp_path / "code.py").write_text("1")
    monkeypatch.delenv("NULLSPACE_GIT_COMMIT", raising=False)
    assert git_state(tmp_path / "code.py") == {"commit": None, "dirty": None}
    monkeypatch.setenv("NULLSPACE_GIT_COMMIT", "abc")
    assert git_state(tmp_path / "code.py") == {"commit": "abc", "dirty": None}


def test_unknown_distribution_has_no_version() -> None:
    assert installed_version("no-such-distribution-here") is None


def test_tags_for_the_pages_of_mlflow() -> None:
    facts = environment()
    facts["git"]["commit"] = "abc"
    assert run_tags(facts)["mlflow.source.git.commit"] == "abc"
    facts["git"]["commit"] = None
    assert "mlflow.source.git.commit" not in run_tags(facts)


def test_a_number_without_an_account_is_an_unknown_user(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 4242")

    monkeypatch.setattr(getpass, "getuser", nobody)
    assert environment()["host"]["user"] == "unknown"


def test_versions_are_shown_a_line_each_and_nothing_heavy_is_imported() -> None:
    code = (
        "import sys; sys.argv = ['nullspace', '--version']\n"
        "from cluster.cli import main\n"
        "try: main()\n"
        "finally: assert not {'torch', 'ray', 'mlflow', 'timm', 'numpy'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[3], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    shown = dict(line.split(None, 1) for line in done.stdout.splitlines())
    assert list(shown) == ["nullspace", "commit", "python", "torch", "timm", "ray", "mlflow"]
    assert shown["torch"] == installed_version("torch") and shown["nullspace"] == installed_version("nullspace-vit")


def test_the_commit_is_that_of_the_checkout_or_of_the_build(monkeypatch: pytest.MonkeyPatch) -> None:
    def commit_of(**state: object) -> str:
        monkeypatch.setattr("pipelines.tracking.environment.git_state", lambda file: state)
        return next(line for line in version_lines() if line.startswith("commit")).split(None, 1)[1]

    assert commit_of(commit="a1b2", dirty=False) == "a1b2"
    assert commit_of(commit="a1b2", dirty=True) == "a1b2, with uncommitted changes"
    assert commit_of(commit=None, dirty=None) == "unknown"
