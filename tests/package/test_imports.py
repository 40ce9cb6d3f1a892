"""Imports go one way, cluster -> pipelines -> nullspace, and `nullspace` runs where Ray and MLflow do not exist."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

from tests.waiting import run

HOUSE = {
    "nullspace": {"nullspace"},
    "pipelines": {"pipelines", "nullspace"},
    "cluster": {"cluster", "pipelines", "nullspace"},
}
BARE = {"torch", "torchvision", "timm", "numpy", "scipy", "safetensors"}  # torchvision comes with timm
# Types in signatures only, never imported when the code runs; both come with timm.
BARE_TYPES = {"PIL"}
# Needed only when called, and named in the error when missing: Pillow comes with timm, reedsolo corrects messages.
WHEN_CALLED = {
    "nullspace/robustness/corruptions/digital.py": {"PIL"},
    "nullspace/watermark/image_operations.py": {"PIL"},
    "nullspace/watermark/payload/code.py": {"reedsolo"},
}
ABSENT = [
    *("ray", "mlflow", "pandas", "pyarrow", "pydantic", "typer", "rich", "optuna"),
    *("sklearn", "matplotlib", "torchmetrics", "jaxtyping", "beartype", "cluster", "pipelines", "reedsolo"),
]


def _sources(root: Path, package: str) -> list[Path]:
    return sorted((root / package).rglob("*.py"))


def _absolute(node: ast.ImportFrom, file: Path, root: Path) -> str:
    """The module that `from … import` names, relative ones resolved against the file's place."""
    if not node.level:
        return node.module or ""
    parents = file.relative_to(root).parts[: -node.level]
    return ".".join([*parents, *([node.module] if node.module else [])])


def _by_name(node: ast.AST) -> Iterator[str]:
    """Modules imported by a literal name: `import_module("x")`, `__import__("x")`."""
    if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if called in ("import_module", "__import__") and isinstance(node.args[0].value, str):
            yield node.args[0].value


def _typing_only(tree: ast.AST) -> set[ast.AST]:
    """Every node under `if TYPE_CHECKING:`."""
    guards = [node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)]
    return {node for guard in guards for statement in guard.body for node in ast.walk(statement)}


def _imports(file: Path, root: Path) -> Iterator[tuple[int, str, bool]]:
    """(line, top-level module, whether for type checkers only) of every import, also those inside functions."""
    tree = ast.parse(file.read_text(encoding="utf-8"), str(file))
    typing_only = _typing_only(tree)
    for node in ast.walk(tree):
        names: list[str] = list(_by_name(node))
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [_absolute(node, file, root)]
        for name in names:
            yield getattr(node, "lineno", 0), name.split(".")[0], node in typing_only


def _violations(root: Path, package: str) -> list[str]:
    """Imports of a room that is not below this one, or, in `nullspace`, of a package a bare machine lacks."""
    found = []
    for file in _sources(root, package):
        for line, top, typing_only in _imports(file, root):
            allowed = HOUSE[package] | set(sys.stdlib_module_names)
            bare = BARE | (BARE_TYPES if typing_only else set())
            bare |= WHEN_CALLED.get(file.relative_to(root).as_posix(), set())
            foreign = top in {*HOUSE, "tests", "benchmarks"} or (package == "nullspace" and top not in bare)
            if top not in allowed and foreign:
                found.append(f"{file.relative_to(root)}:{line} imports {top}")
    return found


@pytest.mark.parametrize("package", sorted(HOUSE))
def test_imports_go_one_way(repository: Path, package: str) -> None:
    assert _sources(repository, package), f"no source found in {package}/"
    assert _violations(repository, package) == []


@pytest.mark.parametrize(
    ("package", "source"),
    [
        ("nullspace", "import ray"),
        ("nullspace", "def f():\n    from pipelines.configs.pipeline import Config"),
        ("nullspace", "import numpy, pipelines.x"),
        ("nullspace", "import importlib\nimportlib.import_module('mlflow.pyfunc')"),
        ("nullspace", "from PIL import Image"),
        ("nullspace", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ray import data"),
        ("pipelines", "from cluster import submit"),
        ("pipelines", "import tests.conftest"),
        ("cluster", "import benchmarks"),
    ],
)
def test_the_one_way_rule_sees_a_wrong_import(tmp_path: Path, package: str, source: str) -> None:
    (tmp_path / package / "deep").mkdir(parents=True)
    (tmp_path / package / "deep" / "wrong.py").write_text(source)
    assert len(_violations(tmp_path, package)) == 1


@pytest.mark.parametrize(
    ("package", "source"),
    [
        ("nullspace", "from . import kernel\nfrom .watermark import visible\nimport math, torch.nn"),
        ("nullspace", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from PIL.Image import Image"),
        ("pipelines", "import ray, mlflow\nfrom nullspace.vit import SplitViT"),
        ("cluster", "from pipelines import config\nimport nullspace"),
    ],
)
def test_the_one_way_rule_lets_right_imports_pass(tmp_path: Path, package: str, source: str) -> None:
    (tmp_path / package).mkdir()
    (tmp_path / package / "right.py").write_text(source)
    assert _violations(tmp_path, package) == []


def test_every_imported_package_is_a_declared_dependency(repository: Path, pyproject: dict[str, Any]) -> None:
    declared = {_normal(re.split(r"[\[<>=~! ]", text)[0]) for text in pyproject["project"]["dependencies"]}
    distributions = packages_distributions()
    missing = set()
    for package in HOUSE:
        for file in _sources(repository, package):
            for line, top, _ in _imports(file, repository):
                known = top in sys.stdlib_module_names or top in HOUSE
                if not known and not declared & {_normal(name) for name in distributions.get(top, [top])}:
                    missing.add(f"{file.relative_to(repository)}:{line} {top}")
    assert sorted(missing) == []


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


_WITHOUT = f"""
import importlib, pkgutil, sys

# A finder that does not see the absent packages: `find_spec` gives None, as it does where they are not installed.
class Bare:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, path=None, target=None):
        return None if name.split(".")[0] in {ABSENT!r} else self.finder.find_spec(name, path, target)
    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = [Bare(finder) for finder in sys.meta_path]
import nullspace
loaded = [module.name for module in pkgutil.walk_packages(nullspace.__path__[:1], "nullspace.")]
for name in loaded:
    importlib.import_module(name)
for name in nullspace.__all__:
    getattr(nullspace, name)
print(len(loaded), "modules")
"""


def _python(repository: Path, code: str) -> subprocess.CompletedProcess[str]:
    return run([sys.executable, "-c", code], cwd=repository)


def test_nullspace_and_all_its_modules_import_on_a_bare_machine(repository: Path) -> None:
    done = _python(repository, _WITHOUT)
    assert done.returncode == 0, done.stderr
    count, _ = done.stdout.split()
    assert int(count) == len(_sources(repository, "nullspace")) - 1, "not every module was loaded"
    assert done.stderr == ""


def test_import_nullspace_prints_nothing_and_loads_nothing_heavy(repository: Path) -> None:
    done = _python(
        repository, "import sys, nullspace; sys.exit(sorted({'torch', 'timm', 'numpy'} & set(sys.modules)) or 0)"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
