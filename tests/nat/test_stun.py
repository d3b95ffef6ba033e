"""STUN: frozen bytes, round trips, everything that must be refused."""

from __future__ import annotations

import binascii

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nat import stun
from nat.address import Address
from nat.errors import WireError
from nat.stun import BindingError, BindingRequest, BindingResponse, Message
from tests.golden import read_golden

GOLDEN = read_golden("stun.txt")
TRANSACTION = bytes(range(12))
KEY = b"p" * 22
RFC_KEY = b"VOkJxbRl1RmTxUk/WvJxBt"
IPV4 = Address("192.0.2.1", 32_853)
IPV6 = Address("2001:db8::1", 32_853)
REQUIRED = (0x0001, 0x0006, 0x0008, 0x0009, 0x0020, 0x0024, 0x0025, 0x0026)
OPTIONAL = (0x8022, 0x8028, 0x8029, 0x802A, 0x802B)
UNKNOWN = (0x0003, 0x7777, 0xC001)
CHECK = BindingRequest(
    TRANSACTION, "peer:call", 1_862_270_975, True, 0x0102030405060708, True
)


def message(kind: int, *attributes: tuple[int, bytes]) -> bytes:
    """Write a message by hand, right or wrong."""
    body = b""
    for number, value in attributes:
        body += number.to_bytes(2, "big") + len(value).to_bytes(2, "big")
        body += value + bytes(-len(value) % 4)
    header = kind.to_bytes(2, "big") + len(body).to_bytes(2, "big")
    return header + bytes.fromhex("2112a442") + TRANSACTION + body


def with_fingerprint(unfinished: bytes) -> bytes:
    length = len(unfinished) - 20 + 8
    start = unfinished[:2] + length.to_bytes(2, "big") + unfinished[4:]
    checksum = binascii.crc32(start) ^ 0x5354554E
    return start + bytes.fromhex("80280004") + checksum.to_bytes(4, "big")


@pytest.mark.parametrize(
    ("name", "frozen", "key"),
    [
        ("reflection_request", BindingRequest(TRANSACTION, padding_bytes=20), None),
        ("reflection_answer", BindingResponse(TRANSACTION, IPV4), None),
        ("reflection_answer_ipv6", BindingResponse(TRANSACTION, IPV6), None),
        ("check", CHECK, KEY),
        ("check_answer", BindingResponse(TRANSACTION, IPV4), KEY),
        ("error", BindingError(TRANSACTION, 487, "Role Conflict"), KEY),
    ],
)
def test_messages_have_their_frozen_bytes(
    name: str, frozen: Message, key: bytes | None
) -> None:
    assert stun.encode(frozen, key).hex() == GOLDEN[name].hex()
    assert stun.decode(GOLDEN[name]) == frozen
    if key is not None:
        stun.verify(GOLDEN[name], key)


@pytest.mark.parametrize(
    ("name", "decoded"),
    [
        (
            "rfc5769_request",
            BindingRequest(
                bytes.fromhex("b7e7a701bc34d686fa87dfae"),
                username="evtj:h6vY",
                priority=0x6E0001FF,
                controlling=False,
                tie_breaker=0x932FF9B151263B36,
            ),
        ),
        (
            "rfc5769_response_ipv4",
            BindingResponse(bytes.fromhex("b7e7a701bc34d686fa87dfae"), IPV4),
        ),
        (
            "rfc5769_response_ipv6",
            BindingResponse(
                bytes.fromhex("b7e7a701bc34d686fa87dfae"),
                Address("2001:db8:1234:5678:11:2233:4455:6677", 32_853),
            ),
        ),
    ],
)
def test_the_vectors_of_rfc_5769_are_understood(name: str, decoded: Message) -> None:
    assert stun.decode(GOLDEN[name]) == decoded
    stun.verify(GOLDEN[name], RFC_KEY)


requests = st.builds(
    BindingRequest,
    st.binary(min_size=12, max_size=12),
    username=st.none() | st.text(st.characters(codec="ascii"), max_size=64),
    priority=st.none() | st.integers(0, 2**32 - 1),
    controlling=st.just(True) | st.just(False),
    tie_breaker=st.integers(0, 2**64 - 1),
    use_candidate=st.booleans(),
    padding_bytes=st.integers(0, 40),
)
responses = st.builds(
    BindingResponse,
    st.binary(min_size=12, max_size=12),
    st.builds(Address, st.ip_addresses().map(str), st.integers(0, 65_535)),
)
errors = st.builds(
    BindingError,
    st.binary(min_size=12, max_size=12),
    st.integers(300, 699),
    st.text(max_size=40),
)


@given(requests | responses | errors, st.none() | st.binary(min_size=1, max_size=40))
def test_what_is_encoded_decodes_to_itself(
    original: Message, key: bytes | None
) -> None:
    datagram = stun.encode(original, key)
    assert stun.is_stun(datagram)
    assert stun.decode(datagram) == original
    assert stun.transaction_of(datagram) == original.transaction_id
    if isinstance(original, BindingRequest):
        assert stun.username_of(datagram) == original.username
    if key is not None:
        stun.verify(datagram, key)


@pytest.mark.parametrize("name", GOLDEN)
def test_every_truncation_is_refused(name: str) -> None:
    for length in range(len(GOLDEN[name])):
        with pytest.raises(WireError):
            stun.decode(GOLDEN[name][:length])


@pytest.mark.parametrize("name", ["check", "check_answer", "error", "rfc5769_request"])
def test_every_changed_bit_of_an_authenticated_message_is_noticed(name: str) -> None:
    key = RFC_KEY if name.startswith("rfc") else KEY
    for index in range(8 * len(GOLDEN[name])):
        changed = bytearray(GOLDEN[name])
        changed[index // 8] ^= 1 << index % 8
        with pytest.raises(WireError):
            stun.verify(bytes(changed), key)


@given(st.binary(max_size=120))
def test_garbage_raises_nothing_but_wire_error(garbage: bytes) -> None:
    for datagram in (garbage, GOLDEN["check"][:20] + garbage):
        for read in (stun.decode, stun.username_of, stun.is_stun):
            try:
                read(datagram)
            except WireError:
                assert read is stun.decode


@given(
    st.sampled_from([0x0001, 0x0101, 0x0111, 0x0011, 0x0003]),
    st.lists(
        st.tuples(
            st.sampled_from([*REQUIRED, *OPTIONAL, *UNKNOWN]),
            st.binary(max_size=24),
        ),
        max_size=5,
    ),
)
def test_well_formed_nonsense_raises_nothing_but_wire_error(
    kind: int, attributes: list[tuple[int, bytes]]
) -> None:
    datagram = message(kind, *attributes)
    for candidate in (datagram, with_fingerprint(datagram)):
        try:
            decoded = stun.decode(candidate)
        except WireError:
            continue
        assert decoded.transaction_id == TRANSACTION


@pytest.mark.parametrize(
    ("why", "datagram"),
    [
        ("cookie", b"\x00\x01\x00\x00" + bytes(16)),
        ("longer than it says", message(0x0001) + bytes(4)),
        ("length not a multiple of 4", b"\x00\x01\x00\x01" + message(1)[4:] + b"\x00"),
        ("attribute overruns", message(0x0001, (0x0006, b"abcd"))[:-4] + b"\x00\x06"),
        ("unsigned too short", message(0x0001, (0x0024, b"\x01"))),
        ("unsigned too long", message(0x0001, (0x0024, bytes(8)))),
        ("twice", message(0x0001, (0x0024, bytes(4)), (0x0024, bytes(4)))),
        ("required but unknown", message(0x0001, (0x7777, b""))),
        ("change request", message(0x0001, (0x0003, bytes(4)))),
        ("both roles", message(0x0001, (0x8029, bytes(8)), (0x802A, bytes(8)))),
        ("username not UTF-8", message(0x0001, (0x0006, b"\xff"))),
        ("username too long", message(0x0001, (0x0006, bytes(514)))),
        ("no mapped address", message(0x0101)),
        ("address of no family", message(0x0101, (0x0020, b"\x00\x03" + bytes(6)))),
        ("no error code", message(0x0111)),
        ("reason not UTF-8", message(0x0111, (0x0009, b"\x00\x00\x04\x00\xff"))),
        ("wrong fingerprint", message(0x0001, (0x8028, bytes(4)))),
        ("indication", message(0x0011)),
        ("allocate", message(0x0003)),
        ("unknown method", message(0x0005)),
    ],
)
def test_what_is_wrong_is_refused(why: str, datagram: bytes) -> None:
    with pytest.raises(WireError):
        stun.decode(datagram)


def test_an_attribute_after_the_fingerprint_is_refused() -> None:
    datagram = with_fingerprint(message(0x0001)) + bytes.fromhex("80220000")
    longer = datagram[:2] + (len(datagram) - 20).to_bytes(2, "big") + datagram[4:]
    with pytest.raises(WireError, match="after FINGERPRINT"):
        stun.decode(longer)


def test_what_follows_the_integrity_is_not_believed() -> None:
    signed = stun.encode(BindingRequest(TRANSACTION, "peer:call"), KEY)[:-8]
    forged = with_fingerprint(signed + bytes.fromhex("00250000"))
    decoded = stun.decode(forged)
    assert isinstance(decoded, BindingRequest)
    assert not decoded.use_candidate
    stun.verify(forged, KEY)


def test_optional_attributes_that_we_do_not_know_are_skipped() -> None:
    datagram = message(0x0001, (0xC001, b"abc"), (0x8022, b"some agent"))
    assert stun.decode(datagram) == BindingRequest(TRANSACTION)


@pytest.mark.parametrize("name", ["reflection_request", "reflection_answer"])
def test_a_message_without_integrity_verifies_under_no_key(name: str) -> None:
    with pytest.raises(WireError):
        stun.verify(GOLDEN[name], b"")


def test_integrity_without_a_fingerprint_is_not_enough() -> None:
    signed = GOLDEN["check"][:-8]
    bare = signed[:2] + (len(signed) - 20).to_bytes(2, "big") + signed[4:]
    with pytest.raises(WireError, match="without FINGERPRINT"):
        stun.verify(bare, KEY)


@pytest.mark.parametrize(
    ("first", "claims"),
    [(0, True), (3, True), (4, False), (0x07, False), (0x80, False)],
)
def test_stun_is_told_from_our_own_datagrams(first: int, claims: bool) -> None:
    assert stun.is_stun(bytes([first]) + message(0x0001)[1:]) is claims


def test_a_reflection_tells_the_asker_where_it_came_from() -> None:
    assert (
        stun.reflect(GOLDEN["reflection_request"], IPV4)
        == (GOLDEN["reflection_answer"])
    )
    assert (
        stun.reflect(GOLDEN["reflection_request"], IPV6)
        == (GOLDEN["reflection_answer_ipv6"])
    )


def test_the_padding_of_a_request_is_just_enough() -> None:
    padding_bytes = stun.REFLECTION_PADDING_BYTES
    request = stun.encode(BindingRequest(TRANSACTION, padding_bytes=padding_bytes))
    shorter = stun.encode(BindingRequest(TRANSACTION, padding_bytes=padding_bytes - 4))
    assert stun.reflect(request, IPV6) is not None
    assert stun.reflect(shorter, IPV6) is None


@given(requests, st.ip_addresses().map(str))
def test_a_reflection_is_never_longer_than_its_request(
    request: BindingRequest, host: str
) -> None:
    datagram = stun.encode(request)
    answer = stun.reflect(datagram, Address(host, 1))
    assert answer is None or len(answer) <= len(datagram)


@pytest.mark.parametrize("name", ["check", "check_answer", "error"])
def test_checks_and_answers_are_not_reflected(name: str) -> None:
    assert stun.reflect(GOLDEN[name], IPV4) is None
