"""Which folder may import which: each says it in its docstring, and here it holds for every import."""

from __future__ import annotations

import ast
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

# Which folders a folder may import, beside itself and the files above it; "." are the files directly in a package.
FOLDERS = {
    "nullspace": {
        "model": set(),
        "model/weight_files": set(),
        "metrics": {"model"},
        "kernel": {"model", "metrics"},
        "noise": {"model", "metrics"},
        "subspace": {"model", "metrics", "noise"},
        "pixels": {"model", "metrics", "kernel"},
        "pixels/solvers": {"kernel"},
        "fooling": {"model", "metrics", "kernel", "pixels"},
        "attribution": {"model", "metrics", "kernel", "pixels", "fooling"},
        "robustness": {"model", "metrics", "kernel", "pixels", "subspace"},
        "robustness/attacks": {"model", "metrics", "kernel", "pixels"},
        "robustness/corruptions": {"model", "metrics", "kernel", "pixels"},
        "robustness/corruptions/blur": {"model", "metrics", "kernel", "pixels"},
        "watermark": {"model", "metrics", "kernel", "pixels"},
        "watermark/visible": {"model", "metrics", "kernel", "pixels", "watermark"},
        "watermark/payload": {"model", "metrics", "kernel", "pixels", "watermark"},
        "former": {"model", "noise"},
    },
    "pipelines": {
        "digits": set(),
        "data": {"digits"},
        "data/sources": {"digits"},
        "engine": {"data", "digits"},
        "engine/machines": set(),
        "engine/workers": {"data"},
        "report": {"digits"},
        "report/templates": set(),
        "tracking": {"data", "engine"},
        "tracking/connection": {"engine"},
        "stages": {"data", "engine", "tracking"},
        "stages/*": {"data", "engine", "tracking", "report", "stages"},
        "evaluations": {"data", "engine", "stages"},
        "evaluations/*": {"data", "engine", "report", "evaluations"},
        "configs": {"data", "engine", "stages/*", "evaluations/*"},
        "workflow": {"configs", "data", "engine", "evaluations", "report", "stages", "tracking"},
        "leaderboard": {"report", "workflow"},
        "commands": {
            *("configs", "data", "digits", "engine", "evaluations"),
            *("leaderboard", "report", "stages", "tracking", "workflow"),
        },
    },
}
# `configs` puts sections together; no other file of a stage or an evaluation concerns it.
SETTINGS_ONLY = {"configs": ("stages", "evaluations")}


def _folder(module: str) -> str:
    """The folder of a module, without its package: `pipelines.stages.search.tuning` lies in `stages/search`."""
    return "/".join(module.split(".")[1:-1])


def _modules_imported(file: Path, root: Path) -> Iterator[str]:
    """Dotted names of the modules of our own that a file imports."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"), str(file))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in FOLDERS:
            place = root / str(node.module).replace(".", "/")
            for alias in node.names:
                below = place.is_dir() and ((place / alias.name).is_dir() or (place / f"{alias.name}.py").is_file())
                yield f"{node.module}.{alias.name}" if below else str(node.module)


def _top(folder: str) -> str:
    return folder.partition("/")[0]


def _rule(package: str, folder: str) -> set[str] | None:
    """What a folder may import: by its own name, by that of its kind (`stages/*`), or by its parent's."""
    rules = FOLDERS[package]
    return rules.get(folder, rules.get(f"{_top(folder)}/*" if "/" in folder else "", rules.get(_top(folder))))


def _wrong_folders(root: Path, package: str) -> list[str]:
    found = []
    for file in sorted((root / package).rglob("*.py")):
        parts = file.relative_to(root).with_suffix("").parts
        own = "/".join(parts[1:-1])
        for module in _modules_imported(file, root):
            is_package = (root / module.replace(".", "/")).is_dir()
            other = "/".join(module.split(".")[1:]) if is_package else _folder(module)
            if module.split(".")[0] != package or not own or not other or own == other:
                continue
            sibling = _top(own) == _top(other)
            allowed = _rule(package, own)
            if allowed is None:
                found.append(f"{own}: no rule for this folder; add one")
            elif sibling and f"{_top(own)}/*" in FOLDERS[package]:
                above_or_below = own.startswith(f"{other}/") or other.startswith(f"{own}/")
                if other not in (_top(own), own) and not above_or_below:
                    found.append(f"{'/'.join(parts)} imports {module}: one question or stage never another")
            elif not sibling and not {other, _top(other)} & allowed and f"{_top(other)}/*" not in allowed:
                found.append(f"{'/'.join(parts)} imports {module}")
            if (
                other.startswith(SETTINGS_ONLY.get(own, ()))
                and not module.endswith("settings")
                and own in SETTINGS_ONLY
            ):
                found.append(f"{'/'.join(parts)} imports {module}: of a stage or an evaluation only its settings")
    return found


@pytest.mark.parametrize("package", sorted(FOLDERS))
def test_folders_import_in_one_direction(repository: Path, package: str) -> None:
    assert sorted(set(_wrong_folders(repository, package))) == []


WRONG = {
    "pipelines/engine/wrong.py": "from pipelines.stages.kernel.stage import kernel",
    "pipelines/evaluations/payload/wrong.py": "from pipelines.evaluations.kernel_noise.rows import EVALUATION",
    "pipelines/report/wrong.py": "from pipelines.stages.search import report",
    "pipelines/workflow/wrong.py": "from pipelines.commands import status",
    "pipelines/configs/wrong.py": "from pipelines.stages.search.stage import search_stage",
    "nullspace/noise/wrong.py": "from nullspace.kernel.patch_kernel import PatchKernel",
    "nullspace/model/wrong.py": "from nullspace.metrics.norms import spread",
}


def test_the_rule_of_folders_sees_a_wrong_arrow(repository: Path, tmp_path: Path) -> None:
    for package in FOLDERS:
        shutil.copytree(repository / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    for file, source in WRONG.items():
        (tmp_path / file).write_text(source)
    found = [line for package in FOLDERS for line in _wrong_folders(tmp_path, package)]
    assert sorted(line.split(" ")[0] + ".py" for line in found) == sorted(WRONG)


def test_rows_of_an_evaluation_never_import_its_report(repository: Path) -> None:
    """Workers would pay for matplotlib."""
    for file in (repository / "pipelines" / "evaluations").rglob("rows.py"):
        assert not [module for module in _modules_imported(file, repository) if "report" in module], file
