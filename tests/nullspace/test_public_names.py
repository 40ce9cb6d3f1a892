"""The front door: every public name opens, and importing the package loads nothing heavy."""

from __future__ import annotations

import subprocess
import sys

import pytest

import nullspace


@pytest.mark.parametrize("name", nullspace.__all__)
def test_public_names_resolve(name: str) -> None:
    assert getattr(nullspace, name).__name__ == name
    assert name in dir(nullspace)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'nullspace' has no attribute 'NoiseNull'"):
        _ = nullspace.NoiseNull  # pyright: ignore[reportAttributeAccessIssue]


def test_importing_the_package_and_its_errors_loads_no_torch() -> None:
    script = (
        "import sys, nullspace, nullspace.errors; print([m for m in ('torch', 'timm', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
