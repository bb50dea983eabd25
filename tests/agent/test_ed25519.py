from __future__ import annotations

import random

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from edgekit.agent import ed25519

RFC_8032 = [  # section 7.1: public key, message, signature
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
    (
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704",
    ),
]
SMALL_ORDER = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
]


@pytest.mark.parametrize(("public", "message", "signature"), RFC_8032)
def test_the_rfc_s_vectors(public: str, message: str, signature: str) -> None:
    key, text, good = bytes.fromhex(public), bytes.fromhex(message), bytes.fromhex(signature)
    assert ed25519.verify(key, text, good)
    for position in (0, 31, 32, 63):
        bad = bytearray(good)
        bad[position] ^= 1
        assert not ed25519.verify(key, text, bytes(bad))
    assert not ed25519.verify(key, text + b"\0", good)


def test_it_agrees_with_cryptography_on_good_and_damaged_signatures() -> None:
    chance = random.Random(0)
    for _ in range(60):
        key = Ed25519PrivateKey.from_private_bytes(chance.randbytes(32))
        message, public = chance.randbytes(chance.randrange(200)), key.public_key().public_bytes_raw()
        parts = [bytearray(public), bytearray(message or b"x"), bytearray(key.sign(message))]
        if chance.random() < 0.7:
            part = chance.choice(parts)
            part[chance.randrange(len(part))] ^= 1 << chance.randrange(8)
        found, told, signature = map(bytes, parts)
        try:
            Ed25519PublicKey.from_public_bytes(found).verify(signature, told if message else message)
            expected = True
        except InvalidSignature:
            expected = False
        assert ed25519.verify(found, told if message else message, signature) is expected


def test_s_beyond_the_group_order_is_refused() -> None:
    public, message, signature = (bytes.fromhex(part) for part in RFC_8032[1])
    s = int.from_bytes(signature[32:], "little") + ed25519.L
    assert not ed25519.verify(public, message, signature[:32] + s.to_bytes(32, "little"))


@pytest.mark.parametrize("public", SMALL_ORDER)
def test_a_key_of_small_order_verifies_nothing(public: str) -> None:
    key = bytes.fromhex(public)
    identity = (1).to_bytes(32, "little")
    assert not ed25519.verify(key, b"any", identity + bytes(32))
    assert not ed25519.verify(key, b"any", key + bytes(32))


@pytest.mark.parametrize(
    "public", ["edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", "02" + "00" * 31, "01" + "00" * 30 + "80"]
)
def test_what_is_no_point_verifies_nothing(public: str) -> None:
    assert not ed25519.verify(bytes.fromhex(public), b"", bytes(64))


@pytest.mark.parametrize(("key", "signature"), [(31, 64), (33, 64), (32, 63), (32, 65), (0, 0)])
def test_other_lengths_verify_nothing(key: int, signature: int) -> None:
    assert not ed25519.verify(bytes(key), b"", bytes(signature))
