"""Every decoder of bytes or text that comes from others, and what it may raise."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

import msgspec

from media import errors as media_errors
from media import packet
from nat import stun
from nat.address import Address
from nat.candidate import Candidate
from nat.errors import WireError
from nat.relay import decode_relayed
from overlay import call_messages, handshake, messages, records, tai64n
from overlay.cookies import open_cookie
from overlay.envelope import decode_envelope
from overlay.identity import parse_short_id, safety_number, short_id
from overlay.names import check_name, format_key, parse_key, parse_peer_name
from overlay.noise import Handshake, KeyPair, Pattern, TransportKeys
from overlay.seal import Kind, Transport, header_of
from tests.fuzz.mutation import mutate, some_bytes
from tests.golden import read_golden
from tests.overlay.samples import claim, descriptor, identity, presence

__all__ = ["DECODERS", "Decoder"]


@dataclass(frozen=True, slots=True)
class Decoder:
    """Functions that take the same bytes, samples they accept, and what they raise."""

    functions: tuple[Callable[[bytes], object], ...]
    samples: tuple[bytes, ...]
    refusal: type[Exception] = WireError

    def run(self, random: Random, inputs: int) -> int:
        """Try so many inputs; gives how many were refused by all functions."""
        refused = 0
        for _ in range(inputs):
            blind = random.random() < 0.1
            data = some_bytes(random) if blind else mutate(random, self.samples)
            takers = [self._takes(function, data) for function in self.functions]
            refused += not any(takers)
        return refused

    def _takes(self, function: Callable[[bytes], object], data: bytes) -> bool:
        try:
            function(data)
        except self.refusal:
            return False
        return True


def _text(function: Callable[[str], object]) -> Callable[[bytes], object]:
    return lambda data: function(data.decode(errors="replace"))


def _of(file: str, *prefixes: str) -> tuple[bytes, ...]:
    """Give the golden samples whose names begin so; all of the file's if none."""
    found = read_golden(file).items()
    return tuple(raw for name, raw in found if name.startswith(prefixes or ("",)))


def _texts(*texts: str) -> tuple[bytes, ...]:
    return tuple(text.encode() for text in texts)


_KEY: Final = bytes(range(32))
_PUBLIC: Final = identity(1).public_key
_PAIR: Final = KeyPair(_KEY)


def _payload(data: bytes) -> object:
    """Read a record whose envelope is right: what is hostile is inside it."""
    kind, payload = data[:1] or b"\1", data[1:]
    signed = [kind[0] % 5, payload, bytes(64)]
    return records.read_record(msgspec.msgpack.encode(signed))


def _payload_samples() -> Sequence[bytes]:
    for_each = (presence(1).raw, descriptor(1).raw, claim(1, "alice").raw)
    unpacked = [msgspec.msgpack.decode(raw) for raw in for_each]
    return [bytes((kind,)) + payload for kind, payload, _ in unpacked]


def _hear(pattern: Pattern, *, as_initiator: bool) -> Callable[[bytes], object]:
    """Read as the next message of a handshake: ours was written, or we wait for one."""
    knows = as_initiator and pattern is not Pattern.XX

    def hear(data: bytes) -> object:
        ours = Handshake(
            pattern,
            initiator=as_initiator,
            prologue=b"",
            ephemeral=_KEY,
            static=_PAIR,
            remote_static=_PAIR.public if knows else None,
        )
        if as_initiator:
            ours.write_message()
        return ours.read_message(data)

    return hear


def _handshake(data: bytes) -> object:
    message = handshake.decode(data)
    if isinstance(message, handshake.CookieReply):
        return open_cookie(message, _KEY, bytes(16))
    handshake.verify_mac1(data, _KEY)
    return message


def _open(data: bytes) -> object:
    transport = Transport(TransportKeys(_KEY, _KEY), 7)
    return header_of(data), transport.open(data)


def _sealed() -> tuple[bytes, ...]:
    transport = Transport(TransportKeys(_KEY, _KEY), 7)
    return tuple(transport.seal(kind, bytes(size)) for kind in Kind for size in (0, 60))


def _check(data: bytes) -> object:
    stun.is_stun(data)
    stun.username_of(data)
    return stun.decode(data)


DECODERS: Final[Mapping[str, Decoder]] = {
    "messages": Decoder(
        (messages.decode_request, messages.decode_answer, messages.decode_notice),
        _of("messages.txt"),
    ),
    "envelope": Decoder((decode_envelope,), _of("messages.txt", "envelope")),
    "call_messages": Decoder(
        (
            call_messages.decode_offer,
            call_messages.decode_call_reply,
            call_messages.decode_call_request,
            call_messages.decode_call_answer,
        ),
        _of("call_messages.txt"),
    ),
    "call_openings": Decoder(
        (call_messages.decode_opening, call_messages.decode_reply),
        _of("call_messages.txt", "call_"),
    ),
    "records": Decoder(
        (
            records.read_record,
            records.read_presence,
            records.read_descriptor,
            records.read_claim,
        ),
        _of("records.txt", "presence", "descriptor", "claim"),
    ),
    "record_payloads": Decoder((_payload,), tuple(_payload_samples())),
    "handshake": Decoder((_handshake,), _of("handshake.txt", "hs", "cookie")),
    "openings": Decoder(
        (handshake.decode_opening, handshake.decode_reply),
        _of("handshake.txt", "opening", "reply"),
    ),
    "noise_initiator": Decoder(
        tuple(_hear(pattern, as_initiator=True) for pattern in Pattern),
        _of("noise.txt", "ik_m", "nk_m", "xx_m"),
    ),
    "noise_responder": Decoder(
        tuple(_hear(pattern, as_initiator=False) for pattern in Pattern),
        _of("noise.txt", "ik_m", "nk_m", "xx_m"),
    ),
    "seal": Decoder((_open,), _sealed()),
    "timestamps": Decoder((tai64n.decode,), (tai64n.encode(1.7e9), bytes(12))),
    "stun": Decoder(
        (
            _check,
            lambda data: stun.verify(data, b"password"),
            lambda data: stun.reflect(data, Address("2001:db8::1", 1)),
        ),
        _of("stun.txt"),
    ),
    "candidate": Decoder(
        (_text(Candidate.parse),),
        _texts(
            "6b0a4c8e 1 udp 2130706431 192.0.2.7 41641 typ host",
            "a/+9 1 UDP 1 2001:db8::1 1 typ srflx raddr 10.0.0.1 rport 9",
            "x 1 udp 99 fe80::1%eth0 7 typ host",
        ),
    ),
    "relay": Decoder((decode_relayed,), _of("relay.txt")),
    "address": Decoder(
        (Address.unpack,), (bytes(6), Address("2001:db8::1", 65_535).pack())
    ),
    "address_text": Decoder(
        (_text(Address.parse), _text(lambda text: Address.parse(text, 7000))),
        _texts("192.0.2.1:7000", "[2001:db8::1]:7000", "2001:db8::1", "[::]:0", "é:²"),
        ValueError,
    ),
    "names": Decoder(
        (
            _text(parse_peer_name),
            _text(check_name),
            _text(parse_key),
            _text(parse_short_id),
        ),
        _texts(
            "alice",
            f"alice-{short_id(_PUBLIC)}",
            short_id(_PUBLIC).upper(),
            f"koe:?k={format_key(_PUBLIC)}",
            f"koe:alice?k={format_key(_PUBLIC)}&s=192.0.2.1:7000,[2001:db8::1]:7001",
            format_key(_PUBLIC),
            safety_number(_PUBLIC, _KEY),
            "ａｌｉｃｅ-ı²",
        ),
        ValueError,
    ),
    "media": Decoder((packet.decode,), _of("media.txt"), media_errors.WireError),
}
