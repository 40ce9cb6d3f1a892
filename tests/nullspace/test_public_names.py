"""The front door: every public name opens, and importing the package loads nothing heavy."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import nullspace


@pytest.mark.parametrize("name", nullspace.__all__)
def test_public_names_resolve(name: str) -> None:
    assert getattr(nullspace, name).__name__ == name
    assert name in dir(nullspace)


def test_every_name_of_the_stub_is_defined_in_the_module_it_names() -> None:
    stub = Path(nullspace.__file__).with_suffix(".pyi")
    imports = [node for node in ast.parse(stub.read_text(encoding="utf-8")).body if isinstance(node, ast.ImportFrom)]
    named = [(node.module or "", alias.name, alias.asname) for node in imports for alias in node.names]
    assert [name for _, name, public in named if public != name] == [], "only `X as X` is public to type checkers"
    assert sorted(name for _, name, _ in named) == nullspace.__all__
    for module, name, _ in named:
        assert getattr(importlib.import_module(module), name).__module__ == module, name


def test_a_star_import_brings_all_names() -> None:
    found: dict[str, object] = {}
    exec("from nullspace import *", found)
    assert set(nullspace.__all__) <= set(found)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'nullspace' has no attribute 'NoiseNull'"):
        _ = nullspace.NoiseNull  # pyright: ignore[reportAttributeAccessIssue]


def test_importing_the_package_and_its_errors_loads_no_torch() -> None:
    script = (
        "import sys, nullspace, nullspace.errors; print([m for m in ('torch', 'timm', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
