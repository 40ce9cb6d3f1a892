"""Philox against its published test vectors and numpy's, and the same words however they are asked for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from nullspace.metrics.philox import philox, signed, words

WORD = st.integers(0, 2**64 - 1)
ONES = 2**64 - 1
# Random123's kat_vectors, philox4x64-10: counter, key, answer.
KNOWN = [
    (
        (0, 0, 0, 0),
        (0, 0),
        (0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B),
    ),
    (
        (ONES, ONES, ONES, ONES),
        (ONES, ONES),
        (0x87B092C3013FE90B, 0x438C3C67BE8D0224, 0x9CC7D7C69CD777B6, 0xA09CAEBF594F0BA0),
    ),
    (
        (0x243F6A8885A308D3, 0x13198A2E03707344, 0xA4093822299F31D0, 0x082EFA98EC4E6C89),
        (0x452821E638D01377, 0xBE5466CF34E90C6C),
        (0xA528F45403E61D95, 0x38C72DBD566E9788, 0xA5A1610E72FD18B5, 0x57BD43B5E52B7FE6),
    ),
]


def tensors(*unsigned: int) -> tuple[Tensor, ...]:
    return tuple(torch.tensor(signed(word)) for word in unsigned)


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN, ids=["zeros", "ones", "pi"])
def test_published_vectors(counter: tuple[int, ...], key: tuple[int, ...], expected: tuple[int, ...]) -> None:
    found = philox(tensors(*counter), tensors(*key))  # type: ignore[arg-type]
    assert tuple(int(word) & ONES for word in found) == expected


@given(st.tuples(WORD, WORD), st.tuples(st.integers(0, 2**63 - 2), WORD, WORD, WORD))
def test_blocks_are_numpys(key: tuple[int, int], counter: tuple[int, int, int, int]) -> None:
    reference = np.random.Philox(key=np.array(key, np.uint64), counter=np.array(counter, np.uint64)).random_raw(4)
    found = philox(tensors(counter[0] + 1, *counter[1:]), tensors(*key))  # type: ignore[arg-type]
    assert found.numpy().view(np.uint64).tolist() == reference.tolist()


@pytest.mark.parametrize("count", [1, 4, 7, 400])
def test_words_are_the_blocks_of_their_keys(count: int) -> None:
    key = torch.tensor([[3, -5], [2**62, 11]])
    blocks = torch.arange(1, 101)
    rest = (torch.tensor(each) for each in (2, 7, 0))
    expected = philox((blocks[None], *rest), (key[:, :1], key[:, 1:])).flatten(1)  # type: ignore[arg-type]
    assert torch.equal(words(key, 2, 7, count), expected[:, :count])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_gpu_gives_the_same_words() -> None:
    key = torch.tensor([[3, -5], [2**62, 11]])
    assert torch.equal(words(key.cuda(), 2, 7, 1001).cpu(), words(key, 2, 7, 1001))
