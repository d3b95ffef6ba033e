"""How people write down a peer: what is read, and what is refused and why."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nat.address import Address
from overlay.identity import short_id
from overlay.names import (
    PeerName,
    check_name,
    format_key,
    parse_key,
    parse_peer_name,
)
from tests.overlay.samples import identity

KEY = identity(1).public_key
SHORT_ID = short_id(KEY)
SEEDS = (Address("192.0.2.1", 7000), Address("2001:db8::1", 7001))

keys = st.binary(min_size=32, max_size=32)


@pytest.mark.parametrize("text", ["alice", "a.b", "4ever", "a_b-c", "bob-the-3rd"])
def test_a_name_is_read_as_a_name(text: str) -> None:
    assert parse_peer_name(text) == PeerName(text)


def test_a_name_with_a_short_id_is_read_as_both() -> None:
    assert parse_peer_name(f"alice-{SHORT_ID}") == PeerName("alice", SHORT_ID)


def test_a_short_id_alone_is_read_as_an_id() -> None:
    assert parse_peer_name(SHORT_ID) == PeerName(short_id=SHORT_ID)


def test_a_whole_key_is_read_as_a_key() -> None:
    assert parse_peer_name(format_key(KEY)) == PeerName(None, SHORT_ID, KEY)


def test_capitals_and_spaces_around_make_no_difference() -> None:
    assert parse_peer_name(f"  Alice-{SHORT_ID.upper()}\n") == PeerName(
        "alice", SHORT_ID
    )


def test_a_mistyped_id_is_not_taken_for_a_name() -> None:
    wrong = SHORT_ID[:-1] + ("0" if SHORT_ID[-1] != "0" else "1")
    with pytest.raises(ValueError, match="mistyped"):
        parse_peer_name(f"alice-{wrong}")


@given(keys, st.sampled_from([None, "alice"]), st.sampled_from([(), SEEDS]))
def test_a_link_reads_back_as_it_was_written(
    key: bytes, name: str | None, seeds: tuple[Address, ...]
) -> None:
    peer = PeerName.of_key(key, name, seeds)
    assert parse_peer_name(peer.link()) == peer


def test_a_link_looks_as_documented() -> None:
    assert PeerName.of_key(KEY, "alice", SEEDS).link() == (
        f"koe:alice?k={format_key(KEY)}&s=192.0.2.1:7000,[2001:db8::1]:7001"
    )


def test_fields_of_a_link_that_are_not_known_are_ignored() -> None:
    link = PeerName.of_key(KEY, "alice").link()
    assert parse_peer_name(f"{link}&later=1") == PeerName.of_key(KEY, "alice")


@pytest.mark.parametrize(
    ("link", "reason"),
    [
        ("koe:alice", "expected a key"),
        ("koe:alice?s=192.0.2.1:7000", "expected a key"),
        ("koe:alice?k=abc", "52 characters"),
        (f"koe:a?k={format_key(KEY)}", "3 to 32 characters"),
        (f"koe:?k={format_key(KEY)}&s=example.org:7000", "IP address"),
        (f"koe:?k={format_key(KEY)}&s=192.0.2.1", "port is missing"),
        (f"koe:?k={format_key(KEY)}&s={','.join(['192.0.2.1:7000'] * 9)}", "8 at most"),
    ],
)
def test_a_link_that_cannot_be_used_is_refused_with_the_reason(
    link: str, reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_peer_name(link)


@pytest.mark.parametrize("text", ["", "al", ".alice", "a" * 33, "al ice", "älice"])
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a name of 3 to 32 characters"):
        parse_peer_name(text)


def test_nobody_is_called_like_an_id() -> None:
    with pytest.raises(ValueError, match="does not end like an id"):
        check_name("k7m3-q9xt-2b5f")
    with pytest.raises(ValueError, match="does not end like an id"):
        check_name("some-nice-long-name")


@given(keys)
def test_a_key_reads_back_as_it_was_written(key: bytes) -> None:
    assert parse_key(format_key(key)) == key
    assert len(format_key(key)) == 52


def test_a_key_with_bits_beyond_its_end_is_refused() -> None:
    text = format_key(bytes(32))
    with pytest.raises(ValueError, match="mistyped"):
        parse_key(text[:-1] + "1")


def test_a_key_in_other_characters_is_refused() -> None:
    with pytest.raises(ValueError, match="52 characters"):
        parse_key("u" * 52)


def test_a_link_needs_the_key() -> None:
    with pytest.raises(ValueError, match="expected a public key"):
        PeerName("alice").link()


def test_what_is_not_said_admits_anybody() -> None:
    assert PeerName("alice").admits(KEY)


def test_a_short_id_admits_only_whose_it_is() -> None:
    assert PeerName("alice", SHORT_ID).admits(KEY)
    assert not PeerName("alice", SHORT_ID).admits(identity(2).public_key)


def test_a_key_admits_only_itself() -> None:
    assert PeerName.of_key(KEY).admits(KEY)
    assert not PeerName.of_key(KEY).admits(identity(2).public_key)


def test_a_peer_is_shown_with_name_and_short_id() -> None:
    assert str(PeerName.of_key(KEY, "alice")) == f"alice-{SHORT_ID}"
    assert str(PeerName("alice")) == "alice"
    assert str(PeerName.of_key(KEY)) == SHORT_ID


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        peer = parse_peer_name(text)
    except ValueError:
        return
    assert peer.name or peer.short_id
