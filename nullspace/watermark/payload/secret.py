"""From a key to random numbers: without the key they can neither be predicted nor reproduced.

scrypt (RFC 7914) stretches the key, so that short passphrases cost an attacker time; SHAKE-256 (FIPS 202)
expands the stretched secret to any number of bytes, under a label for each purpose.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from nullspace.watermark.key import check_key

SCRYPT = {"n": 2**14, "r": 8, "p": 1}  # 16 MiB and about 50 ms for every guess


@dataclass(frozen=True)
class Secret:
    """What a key becomes for one use; never printed."""

    value: bytes = field(repr=False)

    @classmethod
    def of(cls, key: str | bytes, use: bytes) -> Secret:
        """The secret of `key` (text is taken as UTF-8) for one `use`. Raises NullspaceError for a key too short."""
        data = check_key(key.encode() if isinstance(key, str) else bytes(key))
        return cls(hashlib.scrypt(data, salt=hashlib.sha256(use).digest(), dklen=32, **SCRYPT))

    def bytes(self, label: str, count: int) -> bytes:
        """The first `count` bytes derived under a label."""
        name = label.encode()
        return hashlib.shake_256(self.value + len(name).to_bytes(4, "big") + name).digest(count)

    def uniform(self, label: str, shape: tuple[int, ...]) -> Tensor:
        """Independent numbers uniform in [0,1), float64 on the CPU, the same on every machine."""
        drawn = np.frombuffer(self.bytes(label, 4 * int(np.prod(shape))), "<u4").astype(np.float64)
        return torch.from_numpy(drawn / 2**32).reshape(shape)

    def tag(self, message: bytes, length: int) -> bytes:
        """The first `length` bytes of HMAC-SHA-256 (RFC 2104) of a message."""
        return hmac.new(self.bytes("tag", 32), message, "sha256").digest()[:length]
