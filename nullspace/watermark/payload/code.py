"""Between a message and the bits that carry it: a keyed tag to know it by, and Reed-Solomon bytes to mend it with."""

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
WORDS = 500  # likeliest ones that are tried where Reed-Solomon gives up
PARITY = 0.5  # bytes for mending, over bytes of message and tag; 1 and 2 lost more slots per bit than they mended


@dataclass(frozen=True)
class Code:
    """The code for messages of `length` bytes: message, tag, and half as many bytes for mending (RS over GF(256))."""

    length: int
    secret: Secret

    @property
    def data_bytes(self) -> int:
        return self.length + TAG_BYTES

    @property
    def bits(self) -> int:
        """How many bits are embedded."""
        return coded_bits(self.length)

    def encode(self, message: bytes) -> np.ndarray:
        """Message to +1 and -1, float64 (bits,)."""
        coded = _reed_solomon(parity_bytes(self.length)).encode(message + self.secret.tag(message, TAG_BYTES))
        return np.unpackbits(np.frombuffer(bytes(coded), np.uint8)).astype(np.float64) * 2 - 1

    def as_read(self, soft: np.ndarray) -> bytes:
        """The message's bits as they were read, without mending."""
        return np.packbits(soft > 0).tobytes()[: self.length]

    def decode(self, soft: np.ndarray) -> tuple[bytes | None, bytes]:
        """From soft bits (bits,), sign and trust, to the message, or None when no reading bears the tag; and as read.

        The least trusted bytes are left out by and by: Reed-Solomon mends twice as many missing bytes as wrong ones
        (Forney, generalized minimum distance). Where that fails, the likeliest words of the code are tried bit by bit.
        Every word passes by chance with probability 2^-32.
        """
        return self.found(soft)[0], self.as_read(soft)

    def found(self, soft: np.ndarray) -> tuple[bytes | None, int]:
        """As `decode`: the message or None, and how many words were tried for the tag."""
        words = 0
        for words, word in enumerate(self._words(soft), 1):
            message = self._bearing_the_tag(word)
            if message is not None:
                return message, words
        return None, words

    def _words(self, soft: np.ndarray) -> Iterator[bytes]:
        """Message and tag in one word after the other that may have been sent."""
        codec, read = _reed_solomon(parity_bytes(self.length)), np.packbits(soft > 0).tobytes()
        trust = np.abs(soft).reshape(-1, 8).min(axis=1)
        doubtful = [int(place) for place in np.argsort(trust, kind="stable")]
        for missing in range(0, parity_bytes(self.length) + 1, 2):
            found = _mended(codec, read, doubtful[:missing])
            if found is not None:
                yield found
        for word in likeliest(soft, _generator(self.length), WORDS):
            yield np.packbits(word.astype(bool)).tobytes()[: self.data_bytes]

    def _bearing_the_tag(self, word: bytes) -> bytes | None:
        message, tag = word[: self.length], word[self.length :]
        return message if self.secret.tag(message, TAG_BYTES) == tag else None


def coded_bits(length: int) -> int:
    """Bits that carry a message of so many bytes."""
    return 8 * (length + TAG_BYTES + parity_bytes(length))


def parity_bytes(length: int) -> int:
    """Bytes added to a message of so many bytes to mend it with."""
    return round(PARITY * (length + TAG_BYTES))


def check_message(message: bytes) -> None:
    """Raises NullspaceError when a message is empty or too long."""
    if not 1 <= len(message) <= LONGEST:
        raise NullspaceError(
            f"expected a message of 1 to {LONGEST} bytes, got {len(message)}; keep longer texts elsewhere and embed "
            "a number or a UUID that points to them"
        )


@lru_cache  # making one fills tables of the whole package anew
def _reed_solomon(parity: int):
    try:
        from reedsolo import RSCodec
    except ImportError as error:
        raise NullspaceError("hidden messages need the package reedsolo; pip install reedsolo") from error
    return RSCodec(parity)


@lru_cache(maxsize=LONGEST)
def _generator(length: int) -> np.ndarray:
    """Rows of 0 and 1, one for each bit of message and tag: the code is linear in bits too."""
    codec, bits = _reed_solomon(parity_bytes(length)), np.eye(8 * (length + TAG_BYTES), dtype=np.uint8)
    words = [bytes(codec.encode(np.packbits(row).tobytes())) for row in bits]
    return np.unpackbits(np.frombuffer(b"".join(words), np.uint8)).reshape(len(bits), -1)


def _mended(codec, read: bytes, missing: list[int]) -> bytes | None:
    from reedsolo import ReedSolomonError

    try:
        return bytes(codec.decode(read, erase_pos=missing)[0])
    except ReedSolomonError:
        return None
