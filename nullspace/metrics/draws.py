"""Chance keyed by what it is for: seed, condition and id of an image decide every number that is drawn for it.

The same numbers come on a CPU and on a GPU, on any worker, in any batch and order, bit for bit: bits by `philox`, and
from them on only operations that IEEE 754 rounds in one way. A logarithm is not among them, so normal numbers come from
a table of the inverse distribution function (`normal_table`).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from nullspace.errors import NullspaceError
from nullspace.metrics.normal_table import normal_of
from nullspace.metrics.philox import words

_UNIFORM, _NORMAL, _SIGN, _ORDER, _WHOLE, _BYTE = range(6)  # kinds: none shares its bits with another


class Draws:
    """Random numbers for images: every method gives one row per id, and always the same for it.

    Numbers of different methods are independent of each other; a method called again gives the same numbers, unless it
    is that of another `stream`.
    """

    def __init__(self, seed: int, condition: str, ids: Sequence[str], device: torch.device | str = "cpu") -> None:
        """`condition` names what is drawn; the numbers are made on `device`."""
        keys = [_key(seed, condition, id_) for id_ in ids]
        self._keys = torch.tensor(keys, dtype=torch.int64, device=device).reshape(-1, 2)
        self._stream = 0

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, chosen: slice | Tensor) -> Draws:
        """The numbers of some of the images: a slice, or their places (n,) on the device of the draws."""
        return self._with(self._keys[chosen], self._stream)

    @property
    def device(self) -> torch.device:
        """Where numbers are made."""
        return self._keys.device

    def to(self, device: torch.device | str) -> Draws:
        """The same numbers on another device."""
        return self._with(self._keys.to(device), self._stream)

    def stream(self, number: int) -> Draws:
        """Numbers independent of these, for a further step of the same condition."""
        return self._with(self._keys, number)

    def uniform(self, *shape: int) -> Tensor:
        """(n,*shape) float32 in [0,1), multiples of 2^-24."""
        return self._of_bits(_UNIFORM, shape, lambda bits: (bits >> 8 & 0xFFFFFF).float() * 2.0**-24)

    def normal(self, *shape: int) -> Tensor:
        """(n,*shape) float32, standard normal; none is further out than 6.3."""
        return self._of_bits(_NORMAL, shape, normal_of)

    def signs(self, *shape: int) -> Tensor:
        """(n,*shape) float32, -1 or 1."""
        return self._of_bits(_SIGN, shape, lambda bits: 1 - 2 * (bits & 1).float())

    def integers(self, below: int) -> Tensor:
        """(n,) int64 in [0,below), `below` from 1 to 2^31. Raises NullspaceError otherwise."""
        if not 0 < below <= 1 << 31:
            raise NullspaceError(f"expected integers below 1 to 2^31, got {below}")
        return self._of_words(_WHOLE, 1, lambda found: (found[:, 0] >> 32 & 0xFFFFFFFF) * below >> 32)

    def permutation(self, count: int) -> Tensor:
        """(n,count) int64: the numbers 0 … count-1 in random order; `count` from 1 to 2^24."""
        if not 0 < count <= 1 << 24:
            raise NullspaceError(f"expected a permutation of 1 to 2^24 numbers, got {count}")
        # Random words whose last bits are replaced by a place: sorting values is 4 times as fast as sorting places.
        last = (1 << (count - 1).bit_length()) - 1
        places = torch.arange(count, device=self.device)

        def order(found: Tensor) -> Tensor:
            return _sorted(found.bitwise_and_(~last).bitwise_or_(places)).bitwise_and_(last)

        return self._of_words(_ORDER, count, order)

    def shuffled(self, values: Tensor) -> Tensor:
        """Values (n,…), on any device, with the elements of each image in random order."""
        if len(values) != len(self):
            raise NullspaceError(f"expected values for each of {len(self)} ids, got {len(values)}")
        order = self.to(values.device).permutation(values[:1].numel())
        return values.flatten(1).gather(1, order).reshape(values.shape)

    def bytes(self, count: int) -> list[bytes]:
        """`count` random bytes for every image."""
        drawn = self._of_words(_BYTE, -(-count // 8), lambda found: found).cpu().numpy()
        return [row.astype("<i8").tobytes()[:count] for row in drawn]

    def _of_bits(self, kind: int, shape: tuple[int, ...], finish: Callable[[Tensor], Tensor]) -> Tensor:
        """(n,*shape) of 32 random bits each, int32."""
        count = math.prod(shape)
        drawn = self._of_words(kind, -(-count // 2), lambda found: finish(found.view(torch.int32)))
        return drawn[:, :count].reshape(-1, *shape)

    def _of_words(self, kind: int, count: int, finish: Callable[[Tensor], Tensor]) -> Tensor:
        """What `finish` makes of words (n,count): on a CPU image by image, as that stays in its cache."""
        keys = self._keys if len(self) else self._keys.new_zeros(1, 2)
        parts = keys.split(1) if self.device.type == "cpu" else [keys]
        return torch.cat([finish(words(part, self._stream, kind, count)) for part in parts])[: len(self)]

    def _with(self, keys: Tensor, stream: int) -> Draws:
        made = object.__new__(Draws)
        made._keys, made._stream = keys, stream
        return made


def _key(seed: int, condition: str, id_: str) -> tuple[int, int]:
    text = json.dumps([seed, condition, id_])  # a list: no two keys run together to the same text
    found = hashlib.blake2b(text.encode(), digest_size=16).digest()
    return int.from_bytes(found[:8], "little", signed=True), int.from_bytes(found[8:], "little", signed=True)


def _sorted(values: Tensor) -> Tensor:
    if values.device.type != "cpu":
        return values.sort(dim=1).values
    return torch.stack([row.sort().values for row in values])  # of one dimension: by radix, 3 times as fast as of two
