"""Cryptography against the published vectors (GB/T 32905, GB/T 32907)."""

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from lianxin.access import seal


def test_sm3_vector() -> None:
    expected = "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0"
    assert seal.sm3(b"abc").hex() == expected


def test_sm4_vector() -> None:
    key = bytes.fromhex("0123456789abcdeffedcba9876543210")
    box = Cipher(algorithms.SM4(key), modes.ECB()).encryptor()  # the vector is for one bare block
    assert (box.update(key) + box.finalize()).hex() == "681edf34d206965e86b3e94f536e4246"


def test_seal_round_trip_and_randomness() -> None:
    text = "身份证 11010519491231002X"
    one, two = seal.seal(text), seal.seal(text)
    assert one != two
    assert seal.unseal(one) == seal.unseal(two) == text
    assert seal.seal("") == "" == seal.unseal("")


def test_altered_value_is_refused() -> None:
    sealed = seal.seal("13912345678")
    middle = len(sealed) // 2
    swapped = sealed[:middle] + ("A" if sealed[middle] != "A" else "B") + sealed[middle + 1 :]
    for broken in (swapped, "plain", "s1:!!!", "s1:"):
        with pytest.raises(seal.SealBroken):
            seal.unseal(broken)


def test_blind_depends_on_value_and_purpose() -> None:
    assert seal.blind("x", "id") == seal.blind("x", "id")
    assert seal.blind("x", "id") != seal.blind("x", "phone")
    assert len(seal.blind("x", "id")) == 16
