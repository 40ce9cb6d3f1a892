"""The order of images: the same key gives the same place everywhere, and stored results rest on these very numbers."""

from __future__ import annotations

import subprocess
import sys

from nullspace.metrics.keyed import place


def test_keys_give_the_numbers_they_always_gave() -> None:
    assert place("a/b.png", 3) == 1262617334491364924


def test_places_need_no_torch() -> None:
    script = "import sys; from nullspace.metrics.keyed import place; place('a', 0); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0
