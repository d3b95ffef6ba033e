"""The codec of a call's packets: frozen bytes, round trips, truncations, garbage."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.errors import WireError
from media.packet import (
    DATAGRAM_BYTES_MAX,
    NO_ECHO,
    Packet,
    Quiet,
    QuietReason,
    Report,
    VoiceFrame,
    decode,
    encode,
)
from tests.golden import read_golden

GOLDEN = read_golden("media.txt")

PACKETS: dict[str, Packet] = {
    "voice": VoiceFrame(sequence=7, slot=258, payload=b"xAB"),
    "quiet_muted": Quiet(QuietReason.MUTED, next_sequence=8, since=265),
    "quiet_ended": Quiet(QuietReason.ENDED, next_sequence=467, since=467),
    "report": Report(
        expected=467,
        received=463,
        concealed=2,
        jitter_us=8600,
        delay_ms=80,
        mos_hundredths=420,
        played_to_slot=464,
        sent_at_ms=123456,
        echo_ms=122972,
        echo_held_ms=500,
    ),
    "report_without_echo": Report(0, 0, 0, 0, 0, 0, 0, 123456, 0, NO_ECHO),
}

u16 = st.integers(0, 2**16 - 1)
u32 = st.integers(0, 2**32 - 1)
packets = st.one_of(
    st.builds(VoiceFrame, u32, u32, st.binary(min_size=1, max_size=988)),
    st.builds(Quiet, st.sampled_from(QuietReason), u32, u32),
    st.builds(Report, u32, u32, u32, u32, u16, u16, u32, u32, u32, u16),
)


@pytest.mark.parametrize("name", PACKETS)
def test_the_wire_form_is_frozen(name: str) -> None:
    assert encode(PACKETS[name]) == GOLDEN[name]
    assert decode(GOLDEN[name]) == PACKETS[name]


def test_what_a_later_version_appends_is_ignored() -> None:
    assert decode(GOLDEN["voice_with_copy_appended"]) == PACKETS["voice"]
    assert decode(GOLDEN["report"] + b"more") == PACKETS["report"]
    assert decode(GOLDEN["quiet_muted"] + b"more") == PACKETS["quiet_muted"]


def test_flags_of_a_later_version_are_ignored() -> None:
    flagged = bytearray(GOLDEN["voice"])
    flagged[1] = 0xFF
    assert decode(bytes(flagged)) == PACKETS["voice"]


@given(packets)
def test_a_packet_survives_the_wire_in_one_datagram(packet: Packet) -> None:
    datagram = encode(packet)
    assert len(datagram) <= DATAGRAM_BYTES_MAX
    assert decode(datagram) == packet


@pytest.mark.parametrize("name", PACKETS)
def test_every_truncation_is_refused(name: str) -> None:
    for length in range(len(GOLDEN[name])):
        with pytest.raises(WireError):
            decode(GOLDEN[name][:length])


@pytest.mark.parametrize("kind", [k for k in range(256) if k not in (17, 18, 19)])
def test_unknown_kinds_and_versions_are_refused(kind: int) -> None:
    with pytest.raises(WireError, match="kind"):
        decode(bytes([kind]) + GOLDEN["report"][1:])


@pytest.mark.parametrize("reason", [0, 3, 255])
def test_an_unknown_reason_for_quiet_is_refused(reason: int) -> None:
    with pytest.raises(WireError, match="reason"):
        decode(bytes([0x12, reason]) + bytes(8))


def test_an_empty_payload_is_refused() -> None:
    with pytest.raises(WireError, match="payload"):
        decode(GOLDEN["voice"][:10] + bytes(2))


garbage = st.one_of(
    st.binary(max_size=1100),
    st.builds(bytes.__add__, st.sampled_from([b"\x11", b"\x12", b"\x13"]), st.binary()),
)


@given(garbage)
def test_garbage_is_refused_or_means_something(datagram: bytes) -> None:
    try:
        packet = decode(datagram)
    except WireError:
        return
    assert decode(encode(packet)) == packet


def test_lost_frames_are_the_expected_that_did_not_come() -> None:
    report = PACKETS["report"]
    assert isinstance(report, Report)
    assert report.lost == 4
