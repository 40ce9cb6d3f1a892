"""Keyed chance: the same key gives the same draw everywhere, and results that are stored rest on these very numbers."""

from __future__ import annotations

import subprocess
import sys

import torch

from nullspace.metrics.keyed import distortion_seed, generator, message, place, rank


def test_keys_give_the_numbers_they_always_gave() -> None:
    assert generator(0, "kernel", "a/b.png").initial_seed() == 4978246009491232005
    assert place("a/b.png", 3) == 1262617334491364924
    assert rank("a/b.png", 3) == 2525234668982729848
    assert distortion_seed(3, "jpeg_75", "a/b.png") == 5953857523466441
    assert message(3, "a/b.png", 4) == bytes.fromhex("8893c81a")


def test_a_key_is_a_list_and_not_its_text_run_together() -> None:
    assert generator("a", "b").initial_seed() != generator("ab").initial_seed()
    assert generator(1, "x").initial_seed() == generator("1", "x").initial_seed()


def test_one_key_gives_one_draw() -> None:
    draws = [torch.randn(3, generator=generator(0, "gaussian", id_)) for id_ in ("a", "b", "a")]
    assert torch.equal(draws[0], draws[2])
    assert not torch.equal(draws[0], draws[1])


def test_places_need_no_torch() -> None:
    script = "import sys; from nullspace.metrics.keyed import place; place('a', 0); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0
