"""Addresses: their text, their wire form, their prefixes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nat.address import Address
from nat.errors import WireError

addresses = st.builds(Address, st.ip_addresses().map(str), st.integers(0, 65_535))


@given(addresses)
def test_text_and_wire_form_lead_back_to_the_address(address: Address) -> None:
    assert Address.parse(str(address)) == address
    assert Address.unpack(address.pack()) == address
    assert len(address.pack()) == (18 if address.is_ipv6 else 6)


@given(st.binary(max_size=20))
def test_garbage_raises_nothing_but_wire_error(packed: bytes) -> None:
    try:
        address = Address.unpack(packed)
    except WireError:
        assert len(packed) not in (6, 18)
    else:
        assert address.pack() == packed


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.1:7000", Address("192.0.2.1", 7_000)),
        ("[2001:DB8:0::1]:7000", Address("2001:db8::1", 7_000)),
        ("192.0.2.1", Address("192.0.2.1", 5)),
        ("[2001:db8::1]", Address("2001:db8::1", 5)),
        ("2001:db8::1", Address("2001:db8::1", 5)),
    ],
)
def test_people_may_write_it_in_several_ways(text: str, address: Address) -> None:
    assert Address.parse(text, default_port=5) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "192.0.2.1",
        "host.example:7000",
        "192.0.2.1:65536",
        "192.0.2.1:-1",
        "192.0.2.1:",
        "192.0.2.1:x",
        "192.0.2.1:٣",
        "2001:db8::1",
        "300.0.2.1:1",
    ],
)
def test_everything_else_is_said_to_be_wrong(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        Address.parse(text)


def test_prefixes_are_those_of_the_ring() -> None:
    assert Address("192.0.2.77", 1).prefix(24, 48) == bytes([192, 0, 2])
    assert Address("192.0.2.77", 1).prefix(20, 48) == bytes([192, 0, 0])
    ipv6 = Address("2001:db8:1234:5678::1", 1)
    assert ipv6.prefix(24, 48) == bytes.fromhex("20010db81234")
