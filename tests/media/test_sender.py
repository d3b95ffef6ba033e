"""The sender: numbers that go on, and nothing of a muted microphone on the wire."""

from __future__ import annotations

from media.packet import Quiet, QuietReason, VoiceFrame, decode
from media.sender import Sender
from tests.media.fakes import PlainCodec, numbered


class CountingCodec(PlainCodec):
    def __init__(self) -> None:
        self.encoded = 0

    def encode(self, frame: object) -> bytes:
        self.encoded += 1
        return b"\x00\x01\x00\x00"


def sent_by(sender: Sender, frames: int) -> list[VoiceFrame | Quiet | None]:
    packets: list[VoiceFrame | Quiet | None] = []
    for number in range(frames):
        datagram = sender.send(numbered(number))
        packet = None if datagram is None else decode(datagram)
        assert packet is None or isinstance(packet, VoiceFrame | Quiet)
        packets.append(packet)
    return packets


def test_each_frame_is_a_packet_numbered_from_0() -> None:
    packets = sent_by(Sender(PlainCodec()), 3)
    assert [(p.sequence, p.slot) for p in packets if isinstance(p, VoiceFrame)] == [
        (0, 0),
        (1, 1),
        (2, 2),
    ]


def test_muted_sends_a_marker_at_once_and_each_60_ms() -> None:
    sender = Sender(PlainCodec())
    sent_by(sender, 5)
    sender.muted = True
    marker = Quiet(QuietReason.MUTED, next_sequence=5, since=5)
    assert sent_by(sender, 7) == [marker, None, None, marker, None, None, marker]


def test_muted_encodes_nothing() -> None:
    codec = CountingCodec()
    sender = Sender(codec)
    sender.muted = True
    sent_by(sender, 50)
    assert codec.encoded == 0
    assert sender.sent == 0


def test_unmuted_the_sequence_goes_on_and_the_slots_have_passed() -> None:
    sender = Sender(PlainCodec())
    sent_by(sender, 5)
    sender.muted = True
    sent_by(sender, 10)
    sender.muted = False
    (packet,) = sent_by(sender, 1)
    assert isinstance(packet, VoiceFrame)
    assert (packet.sequence, packet.slot) == (5, 15)


def test_after_the_end_markers_go_on() -> None:
    sender = Sender(PlainCodec())
    sent_by(sender, 5)
    assert sender.ended_at_slot is None
    datagrams = [sender.send(None) for _ in range(4)]
    assert datagrams[0] is not None
    assert decode(datagrams[0]) == Quiet(QuietReason.ENDED, 5, 5)
    assert datagrams == [datagrams[0], None, None, datagrams[0]]
    assert sender.ended_at_slot == 5


def test_ending_while_muted_ends_where_the_mute_began() -> None:
    sender = Sender(PlainCodec())
    sent_by(sender, 5)
    sender.muted = True
    sent_by(sender, 4)
    datagram = sender.send(None)
    assert datagram is not None
    assert decode(datagram) == Quiet(QuietReason.ENDED, 5, 5)
