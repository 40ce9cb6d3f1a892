"""What is shipped: the packages listed, the wheel, the pins, and that the folder mlflow/ never stands in for MLflow."""

from __future__ import annotations

import ast
import re
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.waiting import run

ROOMS = ("nullspace", "pipelines", "cluster")
LARGEST = 5_000_000  # bytes; whatever is larger belongs in a release or a bucket
# Written in parts, so that this file does not hold what it looks for.
FORBIDDEN = {
    "a path of one machine": "/" + "work/|/" + "root/|/" + "home/[a-z]",
    "a folder beside the repository": r"\.\." + "/shared",
    "a package index": "pypi"
    + r"\.org/simple|files\.pythonhosted"
    + r"\.org|registry\.npmjs"
    + r"\.org|[-_](index-url|find-links)\b",
}


FOLDERS = {"nullspace", "pipelines"}  # packages with folders; cluster/ is flat


def test_every_folder_says_who_lives_there_and_what_it_may_import(repository: Path) -> None:
    quiet = []
    for file in sorted(f for room in FOLDERS for f in (repository / room).glob("*/**/__init__.py")):
        text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
        if "May import" not in text or "not import" not in text:
            quiet.append(file.relative_to(repository).as_posix())
    assert quiet == []


def test_every_folder_with_modules_is_a_package(repository: Path) -> None:
    modules = {file.parent for room in ROOMS for file in (repository / room).rglob("*.py")}
    assert [folder for folder in sorted(modules) if not (folder / "__init__.py").is_file()] == []


def test_mlflow_is_the_installed_one_also_from_the_repository_root(repository: Path) -> None:
    command = [sys.executable, "-c", "import mlflow; print(mlflow.__file__)"]
    done = run(command, cwd=repository, check=True)
    file = Path(done.stdout.strip())
    assert "site-packages" in file.parts
    assert (repository / "mlflow") not in file.parents


def test_the_folder_mlflow_holds_no_python(repository: Path) -> None:
    assert list((repository / "mlflow").rglob("*.py")) == []


@pytest.fixture(scope="module")
def wheel(repository: Path, repository_files: list[Path], tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel built from a copy of what git holds: a build in place would pick up what older builds left behind."""
    source, output = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for file in repository_files:
        (source / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(repository / file, source / file)
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--wheel-dir", str(output)]
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", *options, str(source)]
    done = run(command, cwd=output)
    assert done.returncode == 0, done.stdout + done.stderr
    return zipfile.ZipFile(next(output.glob("nullspace_vit-*.whl")))


def test_the_wheel_holds_the_packages_and_nothing_else(wheel: zipfile.ZipFile, pyproject: dict[str, Any]) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}
    version = pyproject["project"]["version"]
    assert tops == {*ROOMS, f"nullspace_vit-{version}.dist-info"}


def test_the_wheel_holds_all_modules_and_their_data(wheel: zipfile.ZipFile, repository_files: list[Path]) -> None:
    kinds = {".py", ".pyi", ".yaml", ".safetensors", ".j2", ".html", ".css", ".typed"}
    expected = {
        f.as_posix() for f in repository_files if f.parts[0] in ROOMS and (f.suffix in kinds or f.name == "py.typed")
    }
    assert {"nullspace/py.typed", "nullspace/__init__.pyi"} <= expected
    assert sorted(expected - set(wheel.namelist())) == []


def test_the_wheel_has_the_licence_and_the_command(wheel: zipfile.ZipFile, pyproject: dict[str, Any]) -> None:
    folder = f"nullspace_vit-{pyproject['project']['version']}.dist-info"
    assert "Apache License" in wheel.read(f"{folder}/licenses/LICENSE").decode()
    assert "License-Expression: Apache-2.0" in wheel.read(f"{folder}/METADATA").decode()
    assert "nullspace = cluster.cli:main" in wheel.read(f"{folder}/entry_points.txt").decode()


def _name(requirement: str) -> str:
    return re.sub(r"[-_.]+", "-", re.split(r"[\[<>=~!; ]", requirement)[0]).lower()


def test_every_dependency_is_pinned_and_every_pin_is_exact(repository: Path, pyproject: dict[str, Any]) -> None:
    lines = (repository / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    inexact = [pin for pin in pins if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.+!]*( ?; ?.+)?", pin)]
    assert inexact == []
    project = pyproject["project"]
    extras = [text for extra in project["optional-dependencies"].values() for text in extra]
    needed = {_name(text) for text in [*project["dependencies"], *extras]} - {_name(project["name"])}
    assert sorted(needed - {_name(pin) for pin in pins}) == []


def test_the_changelog_has_an_entry_for_this_version(repository: Path, pyproject: dict[str, Any]) -> None:
    text = (repository / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## {re.escape(pyproject['project']['version'])}\b", text, re.MULTILINE)


def _lines(repository: Path, files: list[Path]) -> list[tuple[Path, int, str]]:
    """(file, line number, line) of every text file."""
    texts = [(f, data) for f in files if b"\0" not in (data := (repository / f).read_bytes())]
    return [(f, i, x) for f, data in texts for i, x in enumerate(data.decode("utf-8", "replace").splitlines(), 1)]


@pytest.mark.parametrize("what", sorted(FORBIDDEN))
def test_no_file_names_what_only_one_machine_has(repository: Path, repository_files: list[Path], what: str) -> None:
    pattern = re.compile(FORBIDDEN[what])
    assert [
        f"{f}:{i}: {line.strip()}" for f, i, line in _lines(repository, repository_files) if pattern.search(line)
    ] == []


def test_no_file_is_too_large_for_git(repository: Path, repository_files: list[Path]) -> None:
    sizes = {str(file): (repository / file).stat().st_size for file in repository_files}
    assert {name: size for name, size in sizes.items() if size > LARGEST} == {}
