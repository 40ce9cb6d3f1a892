"""The benchmark for a GPU runs in its smallest form on a CPU."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests import waiting

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def test_the_benchmark_of_learning_runs_on_a_cpu(tmp_path: Path) -> None:
    script, out = ROOT / "benchmarks" / "bench_gpu.py", tmp_path / "gpu"
    done = waiting.run([sys.executable, str(script), "--device", "cpu", "--small", "--out", str(out)], cwd=ROOT)
    assert done.returncode == 0, done.stderr
    rows = json.loads(out.with_suffix(".json").read_text())["rows"]
    assert {(row["precision"], row["what"]) for row in rows} == {
        (precision, what) for precision in ("float32", "bfloat16") for what in ("learner", "bare loop")
    }
    assert all(float(row["images·steps/s"]) > 0 and row["batch"] == 2 for row in rows)
    assert "| bfloat16 | learner |" in out.with_suffix(".md").read_text()
