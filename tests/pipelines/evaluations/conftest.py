"""The stages that evaluations read, made once for all their tests."""

from __future__ import annotations

import pytest

from pipelines.engine.stage import Done
from tests.pipelines import tiny


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Done]:
    """Shards and reference of 24 digits, cut 14 + 10, a kernel, and a noise on their tokens."""
    return tiny.inputs(tmp_path_factory.mktemp("stages"))
