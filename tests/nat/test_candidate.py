"""Candidates: their text form, what is refused, their order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nat.address import Address
from nat.candidate import Candidate, CandidateKind, order
from nat.errors import WireError

TEXT = "6b0a4c8e 1 udp 2130706431 192.0.2.7 41641 typ host"
HOST, REFLEXIVE = CandidateKind.HOST, CandidateKind.REFLEXIVE


def test_the_text_form_is_that_of_rfc_8839() -> None:
    candidate = Candidate(HOST, Address("192.0.2.7", 41_641), 2_130_706_431, "6b0a4c8e")
    assert Candidate.parse(TEXT) == candidate
    assert candidate.format() == TEXT


def test_extensions_of_other_agents_are_skipped() -> None:
    text = TEXT.replace("host", "srflx") + " raddr 10.0.0.1 rport 5 generation 0 x y"
    assert Candidate.parse(text).kind is REFLEXIVE


@given(
    st.sampled_from(CandidateKind),
    st.ip_addresses().filter(lambda ip: not ip.is_multicast and not ip.is_unspecified),
    st.integers(1, 65_535),
    st.integers(0, 100_000),
)
def test_our_own_candidates_survive_the_way(
    kind: CandidateKind, ip: object, port: int, rank: int
) -> None:
    if str(ip) != "255.255.255.255":
        candidate = Candidate.of(kind, Address(str(ip), port), rank)
        assert Candidate.parse(candidate.format()) == candidate


@pytest.mark.parametrize(
    "text",
    [
        "",
        "6b0a4c8e 1 udp 2130706431 192.0.2.7 41641 typ",
        TEXT.replace("udp", "tcp"),
        TEXT.replace(" 1 udp", " 2 udp"),
        TEXT.replace("192.0.2.7", "host.example"),
        TEXT.replace("192.0.2.7", "8aa6-4a7d.local"),
        TEXT.replace("192.0.2.7", "0.0.0.0"),
        TEXT.replace("192.0.2.7", "::"),
        TEXT.replace("192.0.2.7", "224.0.0.251"),
        TEXT.replace("192.0.2.7", "ff02::1"),
        TEXT.replace("192.0.2.7", "fe80::1%eth0"),
        TEXT.replace("192.0.2.7", "255.255.255.255"),
        TEXT.replace("41641", "0"),
        TEXT.replace("41641", "65536"),
        TEXT.replace("41641", "-1"),
        TEXT.replace("41641", "x"),
        TEXT.replace("2130706431", "0"),
        TEXT.replace("2130706431", "2147483648"),
        TEXT.replace("typ host", "typ friend"),
        TEXT.replace("6b0a4c8e", "x" * 33),
        TEXT.replace("6b0a4c8e", "é"),
        TEXT + " raddr 10.0.0.1 rport x",
        TEXT + " x" * 200,
    ],
)
def test_what_nobody_should_be_probed_at_is_refused(text: str) -> None:
    with pytest.raises(WireError):
        Candidate.parse(text)


@given(st.text(max_size=80) | st.lists(st.text(max_size=9), max_size=12).map(" ".join))
def test_garbage_raises_nothing_but_wire_error(text: str) -> None:
    try:
        Candidate.parse(text)
    except WireError:
        return


def test_the_best_are_tried_first_one_an_address_and_not_more_than_8() -> None:
    addresses = [Address("192.0.2.7", 1_000 + port) for port in range(12)]
    hosts = [Candidate.of(HOST, each, rank) for rank, each in enumerate(addresses)]
    reflexive = [Candidate.of(REFLEXIVE, each) for each in addresses]
    assert order(reversed(reflexive + hosts)) == tuple(hosts[:8])


def test_an_address_of_the_machine_comes_before_what_a_supernode_sees() -> None:
    seen = Candidate.of(REFLEXIVE, Address("203.0.113.1", 1_000))
    own = Candidate.of(HOST, Address("10.0.0.1", 1_000), rank=9)
    assert order([seen, own]) == (own, seen)
