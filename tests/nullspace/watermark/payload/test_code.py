"""Messages as coded bits: errors and erasures are corrected, and a message is known by its tag."""

from __future__ import annotations

import hashlib
import hmac

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nullspace.errors import NullspaceError
from nullspace.watermark.payload.code import LONGEST, TAG_BYTES, Code, check_message, coded_bits, parity_bytes
from nullspace.watermark.payload.secret import SCRYPT, Secret

SECRET = Secret(b"s" * 32)


@settings(max_examples=60, deadline=None)
@given(message=st.binary(min_size=1, max_size=LONGEST), seed=st.integers(0, 2**16), data=st.data())
def test_any_message_survives_as_many_wrong_bytes_as_promised(message: bytes, seed: int, data: st.DataObject) -> None:
    code = Code(len(message), SECRET)
    signs = code.encode(message)
    assert signs.shape == (code.bits,) == (coded_bits(len(message)),)
    wrong = data.draw(st.integers(0, parity_bytes(len(message)) // 2))
    places = np.random.default_rng(seed).choice(code.bits // 8, wrong, replace=False)
    soft = signs * 1.0
    soft.reshape(-1, 8)[places] *= -1
    assert code.decode(soft)[0] == message


def test_twice_as_many_bytes_are_corrected_when_they_are_known_to_be_unreliable() -> None:
    code = Code(8, SECRET)
    soft = code.encode(b"12345678")
    unreliable = np.arange(parity_bytes(8)) * 2
    soft.reshape(-1, 8)[unreliable] *= -0.1
    assert code.decode(soft)[0] == b"12345678"


@pytest.mark.parametrize("length", [4, 8, 16, 32])
def test_more_bytes_than_reed_solomon_corrects_are_corrected_where_only_unreliable_bits_are_wrong(length: int) -> None:
    code, message = Code(length, SECRET), bytes(range(length))
    soft = code.encode(message)
    soft.reshape(-1, 8)[: parity_bytes(length) + 2, 3] *= -0.3
    assert code.decode(soft)[0] == message


def test_what_cannot_be_corrected_is_none_beside_the_message_as_read() -> None:
    code = Code(4, SECRET)
    message, as_read = code.decode(np.random.default_rng(0).standard_normal(code.bits))
    assert message is None and len(as_read) == 4


def test_a_codeword_with_the_tag_of_another_key_is_not_a_message() -> None:
    assert Code(8, SECRET).decode(Code(8, Secret(b"t" * 32)).encode(b"12345678"))[0] is None


def test_the_tag_is_hmac_sha256_and_the_secret_scrypt() -> None:
    stretched = hashlib.scrypt(b"long enough", salt=hashlib.sha256(b"use").digest(), dklen=32, **SCRYPT)
    secret = Secret.of("long enough", b"use")
    assert secret.value == stretched
    key = hashlib.shake_256(stretched + (3).to_bytes(4, "big") + b"tag").digest(32)
    assert secret.tag(b"message", TAG_BYTES) == hmac.digest(key, b"message", "sha256")[:TAG_BYTES]


def test_a_secret_is_not_printed() -> None:
    assert "sss" not in repr(SECRET) and repr(SECRET.value) not in repr(SECRET)


def test_numbers_drawn_are_uniform_and_the_same_everywhere() -> None:
    drawn = SECRET.uniform("offsets", (20000,))
    assert drawn[:3].tolist() == pytest.approx([0.6498126113, 0.0727177730, 0.4081972896], abs=1e-9)
    assert abs(float(drawn.mean()) - 0.5) < 0.01 and float(drawn.min()) >= 0 and float(drawn.max()) < 1
    assert not bool((drawn == SECRET.uniform("other", (20000,))).any())


@pytest.mark.parametrize("message", [b"", b"x" * (LONGEST + 1)])
def test_messages_of_no_or_too_many_bytes_are_refused(message: bytes) -> None:
    with pytest.raises(NullspaceError, match=f"1 to {LONGEST} bytes, got {len(message)}"):
        check_message(message)


def test_a_short_key_is_refused_with_a_way_to_make_one() -> None:
    with pytest.raises(NullspaceError, match="at least 8 bytes, got 5.*openssl rand"):
        Secret.of("short", b"use")
