"""Signed records: frozen bytes, round trips, forgeries, truncations and garbage."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nat.address import Address
from nat.errors import WireError
from overlay.messages import RECORD_BYTES_MAX, Contact
from overlay.records import (
    Capability,
    Presence,
    SignedRecord,
    id_key,
    name_key,
    read_claim,
    read_descriptor,
    read_presence,
    read_record,
    sign_claim,
    sign_descriptor,
    sign_presence,
)
from tests.golden import read_golden
from tests.overlay.samples import NOW, claim, contact, descriptor, identity, presence

SAMPLES: dict[str, SignedRecord] = {
    "presence": presence(1, homes=(contact(2), contact(3), contact(4))),
    "presence_without_homes": presence(1),
    "descriptor": descriptor(2),
    "descriptor_ipv6": descriptor(2, at=Address("2001:db8::1", 7000)),
    "claim": claim(1, "alice"),
}
GOLDEN = read_golden("records.txt")


def signed(kind: int, domain: bytes, payload: bytes) -> bytes:
    """Sign any payload as identity 1."""
    signature = identity(1).sign(domain, payload)
    return msgspec.msgpack.encode([kind, payload, signature])


def payload_of(record: SignedRecord, **changes: object) -> list[object]:
    """Give the fields of a record in order, some of them changed."""
    return list((msgspec.structs.asdict(record) | changes).values())


def presence_with(**changes: object) -> bytes:
    payload = msgspec.msgpack.encode(payload_of(SAMPLES["presence"], **changes))
    return signed(1, b"koe/1/presence\0", payload)


def claim_with(**changes: object) -> bytes:
    payload = msgspec.msgpack.encode(payload_of(SAMPLES["claim"], **changes))
    return signed(3, b"koe/1/claim\0", payload)


def test_records_are_the_frozen_bytes() -> None:
    written = {name: record.raw for name, record in SAMPLES.items()}
    written["id_key"] = id_key(identity(1).public_key)
    written["name_key"] = name_key("alice")
    assert written == GOLDEN


@pytest.mark.parametrize("name", SAMPLES)
def test_a_record_reads_back_as_it_was_signed_and_carries_its_bytes(name: str) -> None:
    record = read_record(GOLDEN[name])
    assert record == SAMPLES[name]
    assert record.raw == GOLDEN[name]


def test_a_record_that_was_never_signed_carries_no_bytes() -> None:
    fields = msgspec.structs.asdict(presence(1))
    assert Presence(**fields).raw == b""


def test_equal_fields_make_equal_records_whatever_bytes_they_came_in() -> None:
    fields = msgspec.structs.asdict(presence(1))
    assert Presence(**fields) == presence(1)


@pytest.mark.parametrize("name", SAMPLES)
def test_no_truncation_is_a_record(name: str) -> None:
    raw = GOLDEN[name]
    for length in range(len(raw)):
        with pytest.raises(WireError):
            read_record(raw[:length])


@pytest.mark.parametrize("name", SAMPLES)
def test_one_wrong_bit_anywhere_in_payload_or_signature_is_noticed(name: str) -> None:
    raw = GOLDEN[name]
    for offset in range(4, len(raw)):
        changed = bytearray(raw)
        changed[offset] ^= 1
        with pytest.raises(WireError):
            read_record(bytes(changed))


@given(st.binary(max_size=RECORD_BYTES_MAX + 10))
def test_garbage_is_no_record(garbage: bytes) -> None:
    with pytest.raises(WireError):
        read_record(garbage)


@given(st.sampled_from([1, 2, 3]), st.binary(max_size=200))
def test_garbage_that_is_well_signed_is_no_record(kind: int, payload: bytes) -> None:
    with pytest.raises(WireError):
        read_record(signed(kind, b"koe/1/presence\0", payload))


def test_a_payload_signed_as_one_kind_is_not_taken_for_another() -> None:
    payload = msgspec.msgpack.encode(payload_of(SAMPLES["presence"]))
    assert read_record(signed(1, b"koe/1/presence\0", payload)) == SAMPLES["presence"]
    with pytest.raises(WireError, match="signature"):
        read_record(signed(1, b"koe/1/claim\0", payload))


def test_a_record_in_the_name_of_another_is_refused() -> None:
    with pytest.raises(WireError, match="signature"):
        read_record(presence_with(public_key=identity(2).public_key))


def test_nobody_signs_for_another() -> None:
    with pytest.raises(ValueError, match="expected a record of"):
        sign_presence(identity(2), presence(1))
    with pytest.raises(ValueError, match="expected a record of"):
        sign_descriptor(identity(2), descriptor(1))
    with pytest.raises(ValueError, match="expected a record of"):
        sign_claim(identity(2), claim(1, "alice"))


def test_fields_that_a_later_version_appends_are_ignored() -> None:
    payload = msgspec.msgpack.encode([*payload_of(SAMPLES["presence"]), b"later", 7])
    record = read_presence(signed(1, b"koe/1/presence\0", payload))
    assert record == SAMPLES["presence"]


@pytest.mark.parametrize(
    "changes",
    [
        {"ver": 2},
        {"public_key": bytes(31)},
        {"dh_public": bytes(33)},
        {"seq": -1},
        {"seq": 2**63},
        {"issued": -1},
        {"ttl_s": 0},
        {"ttl_s": 3_601},
        {"homes": [contact(2)] * 4},
        {"homes": [Contact(bytes(7), bytes(32))]},
        {"caps": 2**32},
        {"client_version": "x" * 17},
        {"client_version": "\x1b[2J"},
    ],
    ids=str,
)
def test_a_presence_with_a_field_out_of_range_is_refused(
    changes: dict[str, object],
) -> None:
    with pytest.raises(WireError):
        read_presence(presence_with(**changes))


@pytest.mark.parametrize(
    "name", ["al", "-alice", "Alice", "a" * 33, "älice", "alice\n", "a-k7m3-q9xt-2b5f"]
)
def test_a_claim_to_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(WireError):
        read_claim(claim_with(name=name))


def test_a_descriptor_with_an_address_of_no_family_is_refused() -> None:
    payload = payload_of(descriptor(1), packed_address=bytes(8))
    raw = signed(2, b"koe/1/descriptor\0", msgspec.msgpack.encode(payload))
    with pytest.raises(WireError, match="address"):
        read_descriptor(raw)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(WireError):
        read_record(signed(4, b"koe/1/later\0", b"\x90"))


def test_a_reader_of_one_kind_refuses_the_others() -> None:
    with pytest.raises(WireError, match="a Claim, expected a Presence"):
        read_presence(claim(1, "alice").raw)
    with pytest.raises(WireError, match="a Presence, expected a Descriptor"):
        read_descriptor(presence(1).raw)
    with pytest.raises(WireError, match="a Descriptor, expected a Claim"):
        read_claim(descriptor(1).raw)


def test_the_longest_records_fit_their_limits() -> None:
    home = Contact.of(Address("2001:db8::1", 65_535), bytes(32))
    longest = presence_with(
        seq=2**63 - 1,
        issued=2**40,
        ttl_s=3_600,
        homes=[home] * 3,
        caps=2**32 - 1,
        client_version="x" * 16,
    )
    assert len(read_record(longest).raw) <= RECORD_BYTES_MAX
    unsigned = payload_of(
        descriptor(1, at=home.address),
        incarnation=2**63 - 1,
        issued=2**40,
        caps=2**32 - 1,
        client_version="x" * 16,
    )
    raw = signed(2, b"koe/1/descriptor\0", msgspec.msgpack.encode(unsigned))
    assert len(read_record(raw).raw) <= 200


def test_unknown_capabilities_are_kept() -> None:
    assert Capability.RELAY in Capability(5)


def test_keys_of_the_same_text_as_name_and_as_identity_differ() -> None:
    assert id_key(b"alice") != name_key("alice")
    assert len(id_key(b"alice")) == len(name_key("alice")) == 8


def test_time_in_records_is_whole_seconds() -> None:
    assert presence(1).issued == int(NOW)
