"""Signatures by domain, short ids and their check character, safety numbers."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nat.errors import WireError
from overlay.identity import (
    ALPHABET,
    Identity,
    parse_short_id,
    safety_number,
    short_id,
    verify,
)
from overlay.noise import KeyPair

ALICE = Identity(bytes(range(32)), bytes(range(32, 64)))
BOB = Identity(bytes(range(64, 96)), bytes(range(96, 128)))
DOMAIN = b"koe/1/presence\0"

public_keys = st.binary(min_size=32, max_size=32)


def test_an_identity_follows_from_its_seeds() -> None:
    again = Identity(*ALICE.seeds())
    assert again.public_key == ALICE.public_key
    assert again.dh_public == ALICE.dh_public == KeyPair(bytes(range(32, 64))).public


def test_the_public_key_is_that_of_rfc_8032() -> None:
    seed = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"
    public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    assert Identity(bytes.fromhex(seed), bytes(32)).public_key.hex() == public


def test_a_new_identity_takes_two_different_seeds() -> None:
    chance = random.Random(1)
    identity = Identity.generate(chance.randbytes)
    signing_seed, dh_seed = identity.seeds()
    assert signing_seed != dh_seed
    assert identity.public_key != identity.dh_public


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_seed_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="expected 32"):
        Identity(bytes(32), bytes(length))
    with pytest.raises(ValueError, match="expected 32"):
        Identity(bytes(length), bytes(32))


@given(payload=st.binary())
def test_a_signature_verifies(payload: bytes) -> None:
    signature = ALICE.sign(DOMAIN, payload)
    assert len(signature) == 64
    verify(ALICE.public_key, DOMAIN, payload, signature)


def test_a_signature_is_of_one_key_one_domain_and_one_payload() -> None:
    signature = ALICE.sign(DOMAIN, b"payload")
    for public_key, domain, payload in (
        (BOB.public_key, DOMAIN, b"payload"),
        (ALICE.public_key, b"koe/1/claim\0", b"payload"),
        (ALICE.public_key, DOMAIN, b"payloaD"),
    ):
        with pytest.raises(WireError):
            verify(public_key, domain, payload, signature)


def test_every_flipped_bit_of_a_signature_is_refused() -> None:
    signature = ALICE.sign(DOMAIN, b"payload")
    for bit in range(8 * len(signature)):
        flipped = bytearray(signature)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(WireError):
            verify(ALICE.public_key, DOMAIN, b"payload", bytes(flipped))


@given(public_key=st.binary(max_size=40), signature=st.binary(max_size=80))
def test_a_garbage_key_or_signature_is_refused(
    public_key: bytes, signature: bytes
) -> None:
    with pytest.raises(WireError):
        verify(public_key, DOMAIN, b"payload", signature)
    with pytest.raises(WireError):
        verify(ALICE.public_key, DOMAIN, b"payload", signature.ljust(64, b"\0")[:64])
    with pytest.raises(WireError):
        verify(public_key.ljust(32, b"\0")[:32], DOMAIN, b"", bytes(63) + b"\x01")


def test_short_ids_are_the_frozen_ones() -> None:
    assert short_id(ALICE.public_key) == "ex8w-vact-b58n"
    assert short_id(BOB.public_key) == "rf22-8jfc-mphn"
    assert short_id(bytes(32)) == "rm6h-4jma-nx06"


@given(public_key=public_keys)
def test_a_short_id_is_read_back(public_key: bytes) -> None:
    shown = short_id(public_key)
    assert [len(group) for group in shown.split("-")] == [4, 4, 4]
    assert parse_short_id(shown) == shown


def test_a_short_id_is_read_as_people_type_it() -> None:
    shown = next(
        shown
        for number in range(1_000)
        if {"0", "1"} <= set(shown := short_id(number.to_bytes(32, "big")))
    )
    for typed in (
        shown.upper(),
        shown.replace("-", ""),
        f"  {shown}\n",
        shown.replace("0", "o"),
        shown.replace("0", "O"),
        shown.replace("1", "l"),
        shown.replace("1", "I"),
    ):
        assert parse_short_id(typed) == shown


@given(
    public_key=public_keys, place=st.integers(0, 11), other=st.sampled_from(ALPHABET)
)
def test_every_wrong_character_is_noticed(
    public_key: bytes, place: int, other: str
) -> None:
    plain = short_id(public_key).replace("-", "")
    typed = plain[:place] + other + plain[place + 1 :]
    if typed == plain:
        assert parse_short_id(typed) == short_id(public_key)
    else:
        with pytest.raises(ValueError, match="mistyped"):
            parse_short_id(typed)


@given(
    public_key=public_keys, places=st.sets(st.integers(0, 11), min_size=2, max_size=2)
)
def test_every_exchange_of_two_characters_is_noticed(
    public_key: bytes, places: set[int]
) -> None:
    plain = list(short_id(public_key).replace("-", ""))
    first, second = places
    same = plain[first] == plain[second]
    plain[first], plain[second] = plain[second], plain[first]
    if not same:
        with pytest.raises(ValueError, match="mistyped"):
            parse_short_id("".join(plain))


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "k7m3",
        "k7m3-q9xt-2b5f-",
        "k7m3-q9xt-2b5f0",
        "k7m3-q9xt-2b5u",
        "ünïcödé12345",
    ],
)
def test_what_is_no_short_id_is_refused_with_what_was_expected(typed: str) -> None:
    with pytest.raises(ValueError, match=r"expected a short id|mistyped") as refusal:
        parse_short_id(typed)
    assert repr(typed) in str(refusal.value)


@given(text=st.text())
def test_any_text_is_refused_or_a_short_id(text: str) -> None:
    try:
        parsed = parse_short_id(text)
    except ValueError:
        return
    assert parse_short_id(parsed) == parsed


def test_a_safety_number_is_the_frozen_one() -> None:
    assert safety_number(ALICE.public_key, BOB.public_key) == (
        "63361 81171 22458 67895 80965 92630 21917 93627 49399 60932 39245 42408"
    )


@given(ours=public_keys, theirs=public_keys)
def test_a_safety_number_is_the_same_on_both_sides(ours: bytes, theirs: bytes) -> None:
    number = safety_number(ours, theirs)
    assert number == safety_number(theirs, ours)
    assert [len(group) for group in number.split()] == [5] * 12
    assert number.replace(" ", "").isdigit()


def test_another_key_gives_another_safety_number() -> None:
    numbers = {
        safety_number(ALICE.public_key, number.to_bytes(32, "big"))
        for number in range(1_000)
    }
    assert len(numbers) == 1_000


def test_an_identity_prints_no_secret() -> None:
    assert repr(ALICE) == f"Identity({short_id(ALICE.public_key)})"
