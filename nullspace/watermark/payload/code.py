"""From messages to coded bits and back: a keyed tag authenticates a message, Reed-Solomon parity corrects errors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from nullspace.errors import NullspaceError
from nullspace.watermark.payload.ordered_statistics import likeliest
from nullspace.watermark.payload.secret import Secret

LONGEST = 32  # bytes of a message; two UUIDs
TAG_BYTES = 4
CODEWORDS = 500  # the likeliest ones, tried where Reed-Solomon decoding fails
PARITY = 0.5  # parity bytes over bytes of message and tag; with 1 and 2, fewer sites per bit cost more than they gain


@dataclass(frozen=True)
class Code:
    """The code for messages of `length` bytes: message, tag, and half as many parity bytes (RS over GF(256))."""

    length: int
    secret: Secret

    @property
    def data_bytes(self) -> int:
        return self.length + TAG_BYTES

    @property
    def bits(self) -> int:
        """Number of bits that are embedded."""
        return coded_bits(self.length)

    def encode(self, message: bytes) -> np.ndarray:
        """Message to +1 and -1, float64 (bits,)."""
        coded = _reed_solomon(parity_bytes(self.length)).encode(message + self.secret.tag(message, TAG_BYTES))
        return np.unpackbits(np.frombuffer(bytes(coded), np.uint8)).astype(np.float64) * 2 - 1

    def as_read(self, soft: np.ndarray) -> bytes:
        """The message's bits as they were read, without error correction."""
        return np.packbits(soft > 0).tobytes()[: self.length]

    def decode(self, soft: np.ndarray) -> tuple[bytes | None, bytes]:
        """From soft bits (bits,), sign and reliability, to the message, or None when no codeword has a valid tag.

        Second in the result: the message as read, without error correction. Bytes are erased, least reliable first:
        Reed-Solomon corrects twice as many erasures as errors (Forney, generalized minimum distance). Where that fails
        the likeliest codewords are tried. The tag of a wrong codeword is valid with probability 2^-32.
        """
        return self.found(soft)[0], self.as_read(soft)

    def found(self, soft: np.ndarray) -> tuple[bytes | None, int]:
        """As `decode`: the message or None, and the number of codewords whose tag was checked."""
        tried = 0
        for tried, codeword in enumerate(self._candidates(soft), 1):
            message = self._authenticated(codeword)
            if message is not None:
                return message, tried
        return None, tried

    def _candidates(self, soft: np.ndarray) -> Iterator[bytes]:
        """Message and tag of one codeword after the other that may have been sent."""
        codec, read = _reed_solomon(parity_bytes(self.length)), np.packbits(soft > 0).tobytes()
        reliability = np.abs(soft).reshape(-1, 8).min(axis=1)
        unreliable = [int(place) for place in np.argsort(reliability, kind="stable")]
        for erasures in range(0, parity_bytes(self.length) + 1, 2):
            corrected = _corrected(codec, read, unreliable[:erasures])
            if corrected is not None:
                yield corrected
        for codeword in likeliest(soft, _generator(self.length), CODEWORDS):
            yield np.packbits(codeword.astype(bool)).tobytes()[: self.data_bytes]

    def _authenticated(self, codeword: bytes) -> bytes | None:
        message, tag = codeword[: self.length], codeword[self.length :]
        return message if self.secret.tag(message, TAG_BYTES) == tag else None


def coded_bits(length: int) -> int:
    """Number of coded bits of a message of `length` bytes."""
    return 8 * (length + TAG_BYTES + parity_bytes(length))


def parity_bytes(length: int) -> int:
    """Number of parity bytes of a message of `length` bytes."""
    return round(PARITY * (length + TAG_BYTES))


def check_message(message: bytes) -> None:
    """Raises NullspaceError when a message is empty or too long."""
    if not 1 <= len(message) <= LONGEST:
        raise NullspaceError(
            f"expected a message of 1 to {LONGEST} bytes, got {len(message)}; keep longer texts elsewhere and embed "
            "a number or a UUID that points to them"
        )


@lru_cache  # making a codec recomputes the tables of the whole package
def _reed_solomon(parity: int):
    try:
        from reedsolo import RSCodec
    except ImportError as error:
        raise NullspaceError("hidden messages need the package reedsolo; pip install reedsolo") from error
    return RSCodec(parity)


@lru_cache(maxsize=LONGEST)
def _generator(length: int) -> np.ndarray:
    """Generator matrix over GF(2), a row for each bit of message and tag: the code is linear over bits too."""
    codec, bits = _reed_solomon(parity_bytes(length)), np.eye(8 * (length + TAG_BYTES), dtype=np.uint8)
    codewords = [bytes(codec.encode(np.packbits(row).tobytes())) for row in bits]
    return np.unpackbits(np.frombuffer(b"".join(codewords), np.uint8)).reshape(len(bits), -1)


def _corrected(codec, read: bytes, erasures: list[int]) -> bytes | None:
    from reedsolo import ReedSolomonError

    try:
        return bytes(codec.decode(read, erase_pos=erasures)[0])
    except ReedSolomonError:
        return None
