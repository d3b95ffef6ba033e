"""Our Noise against frozen transcripts, against `noiseprotocol`, and against abuse."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives.hashes import BLAKE2s
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st
from noise.connection import Keypair, NoiseConnection

from nat.errors import WireError
from overlay.noise import Handshake, KeyPair, Pattern, TransportKeys, derive
from tests.golden import read_golden

PROLOGUE = b"koe/1" + bytes(8)
INITIATOR = KeyPair(bytes(range(32)))
RESPONDER = KeyPair(bytes(range(32, 64)))
INITIATOR_EPHEMERAL = bytes(range(64, 96))
RESPONDER_EPHEMERAL = bytes(range(96, 128))
ORACLE_RUNS = 167
# For each of three patterns and two roles: 1,002 handshakes.

patterns = pytest.mark.parametrize("pattern", list(Pattern), ids=lambda p: p.name)


def open_handshake(
    pattern: Pattern, *, prologue: bytes = PROLOGUE
) -> tuple[Handshake, Handshake]:
    """Make both sides of a handshake with the fixed keys."""
    initiator = Handshake(
        pattern,
        initiator=True,
        prologue=PROLOGUE,
        ephemeral=INITIATOR_EPHEMERAL,
        static=None if pattern is Pattern.NK else INITIATOR,
        remote_static=None if pattern is Pattern.XX else RESPONDER.public,
    )
    responder = Handshake(
        pattern,
        initiator=False,
        prologue=prologue,
        ephemeral=RESPONDER_EPHEMERAL,
        static=RESPONDER,
    )
    return initiator, responder


def exchange(
    initiator: Handshake, responder: Handshake, payloads: Iterator[bytes]
) -> list[bytes]:
    """Run a handshake to its end and give its messages."""
    messages = []
    writer, reader = initiator, responder
    while not (initiator.finished and responder.finished):
        payload = next(payloads)
        messages.append(writer.write_message(payload))
        assert reader.read_message(messages[-1]) == payload
        writer, reader = reader, writer
    return messages


def numbered_payloads() -> Iterator[bytes]:
    for number in range(1, 4):
        yield b"payload %d" % number


def before_message(pattern: Pattern, number: int) -> tuple[Handshake, bytes]:
    """Give a handshake about to read message `number` (from 0), and that message."""
    writer, reader = open_handshake(pattern)
    for _ in range(number):
        reader.read_message(writer.write_message(b"payload"))
        writer, reader = reader, writer
    return reader, writer.write_message(b"payload")


def every_message() -> list[tuple[Pattern, int]]:
    return [
        (pattern, number)
        for pattern, count in ((Pattern.IK, 2), (Pattern.NK, 2), (Pattern.XX, 3))
        for number in range(count)
    ]


messages = pytest.mark.parametrize(("pattern", "number"), every_message())


@patterns
def test_the_transcript_is_the_frozen_one(pattern: Pattern) -> None:
    initiator, responder = open_handshake(pattern)
    transcript = exchange(initiator, responder, numbered_payloads())
    golden = read_golden("noise.txt")
    name = pattern.name.lower()
    for number, message in enumerate(transcript, start=1):
        assert message.hex() == golden[f"{name}_message_{number}"].hex()
    assert initiator.hash.hex() == golden[f"{name}_hash"].hex()
    keys = initiator.split()
    assert keys.send.hex() == golden[f"{name}_initiator_sends"].hex()
    assert keys.receive.hex() == golden[f"{name}_responder_sends"].hex()


@pytest.mark.filterwarnings("ignore:One of ephemeral keypairs is already set")
@patterns
def test_the_oracle_makes_the_frozen_transcript_too(pattern: Pattern) -> None:
    initiator = open_oracle(pattern, initiator=True, ephemeral=INITIATOR_EPHEMERAL)
    responder = open_oracle(pattern, initiator=False, ephemeral=RESPONDER_EPHEMERAL)
    golden = read_golden("noise.txt")
    writer, reader = initiator, responder
    for number, payload in enumerate(numbered_payloads(), start=1):
        message = writer.write_message(payload)
        assert message == golden[f"{pattern.name.lower()}_message_{number}"]
        reader.read_message(message)
        writer, reader = reader, writer
        if initiator.handshake_finished:
            break
    assert initiator.get_handshake_hash() == golden[f"{pattern.name.lower()}_hash"]


@patterns
@pytest.mark.parametrize("we_initiate", [True, False])
def test_we_agree_with_the_oracle_on_hash_and_keys(
    pattern: Pattern, we_initiate: bool
) -> None:
    chance = random.Random(f"{pattern.name} {we_initiate}")
    for _ in range(ORACLE_RUNS):
        ours_private, theirs_private = chance.randbytes(32), chance.randbytes(32)
        ours, theirs = KeyPair(ours_private), KeyPair(theirs_private)
        prologue = chance.randbytes(chance.randrange(40))
        handshake = Handshake(
            pattern,
            initiator=we_initiate,
            prologue=prologue,
            ephemeral=chance.randbytes(32),
            static=None if we_initiate and pattern is Pattern.NK else ours,
            remote_static=(
                theirs.public if we_initiate and pattern is not Pattern.XX else None
            ),
        )
        oracle = open_oracle(
            pattern,
            initiator=not we_initiate,
            static=theirs_private,
            remote_static=ours.public,
            prologue=prologue,
        )
        we_write = we_initiate
        while not handshake.finished:
            payload = chance.randbytes(chance.randrange(1_000))
            if we_write:
                message = handshake.write_message(payload)
                assert oracle.read_message(message) == payload
            else:
                message = bytes(oracle.write_message(payload))
                assert handshake.read_message(message) == payload
            we_write = not we_write
        assert oracle.handshake_finished
        assert oracle.get_handshake_hash() == handshake.hash
        states = oracle.noise_protocol
        assert handshake.split() == TransportKeys(
            send=states.cipher_state_decrypt.k, receive=states.cipher_state_encrypt.k
        )


@patterns
def test_both_sides_split_into_the_same_keys(pattern: Pattern) -> None:
    initiator, responder = open_handshake(pattern)
    exchange(initiator, responder, numbered_payloads())
    assert initiator.hash == responder.hash
    ours, theirs = initiator.split(), responder.split()
    assert (ours.send, ours.receive) == (theirs.receive, theirs.send)
    assert ours.send != ours.receive


@patterns
def test_each_side_learns_who_the_other_is_unless_anonymous(pattern: Pattern) -> None:
    initiator, responder = open_handshake(pattern)
    exchange(initiator, responder, numbered_payloads())
    assert initiator.remote_static == RESPONDER.public
    anonymous = pattern is Pattern.NK
    assert responder.remote_static == (None if anonymous else INITIATOR.public)


def test_whoever_forwards_a_handshake_can_compute_its_hash() -> None:
    initiator, responder = open_handshake(Pattern.IK)
    first, second = exchange(initiator, responder, numbered_payloads())
    seen = hashlib.blake2s(b"Noise_IK_25519_ChaChaPoly_BLAKE2s").digest()
    parts = [first[:32], first[32:80], first[80:], second[:32], second[32:]]
    for part in (PROLOGUE, RESPONDER.public, *parts):
        seen = hashlib.blake2s(seen + part).digest()
    assert seen == initiator.hash


@messages
def test_every_truncation_is_refused(pattern: Pattern, number: int) -> None:
    reader, message = before_message(pattern, number)
    unprotected = (pattern, number) == (Pattern.XX, 0)
    shorter = range(32 if unprotected else len(message))
    for length in shorter:
        with pytest.raises(WireError):
            reader.read_message(message[:length])
    assert reader.read_message(message) == b"payload"


@pytest.mark.parametrize(
    ("pattern", "number"), every_message()[:4] + every_message()[5:]
)
def test_every_flipped_bit_is_refused(pattern: Pattern, number: int) -> None:
    reader, message = before_message(pattern, number)
    for flipped in flipped_bits(message):
        with pytest.raises(WireError):
            reader.read_message(flipped)


def test_a_bit_flipped_in_the_first_message_of_xx_is_noticed_in_the_second() -> None:
    _, message = before_message(Pattern.XX, 0)
    for flipped in flipped_bits(message):
        initiator, responder = open_handshake(Pattern.XX)
        initiator.write_message(b"payload")
        responder.read_message(flipped)
        answer = responder.write_message()
        with pytest.raises(WireError):
            initiator.read_message(answer)


@messages
def test_a_refused_message_leaves_the_handshake_as_it_was(
    pattern: Pattern, number: int
) -> None:
    reader, message = before_message(pattern, number)
    before = reader.hash, reader.remote_static
    for refused in (b"", bytes(len(message)), message[:31]):
        # 32 zero bytes are a well-formed message 1 of XX: nothing protects it.
        if not (pattern is Pattern.XX and number == 0 and len(refused) >= 32):
            with pytest.raises(WireError):
                reader.read_message(refused)
    assert (reader.hash, reader.remote_static) == before
    assert reader.read_message(message) == b"payload"


@given(
    garbage=st.binary(max_size=300),
    place=st.sampled_from(every_message()),
    keep=st.data(),
)
def test_garbage_is_refused(
    garbage: bytes, place: tuple[Pattern, int], keep: st.DataObject
) -> None:
    reader, message = before_message(*place)
    kept = keep.draw(st.integers(0, len(message)))
    mangled = message[:kept] + garbage
    if place == (Pattern.XX, 0):
        if len(mangled) < 32:
            with pytest.raises(WireError):
                reader.read_message(mangled)
    elif mangled != message:
        with pytest.raises(WireError):
            reader.read_message(mangled)


@pytest.mark.parametrize("point", [0, 1], ids=["zero", "one"])
def test_a_point_of_low_order_is_refused(point: int) -> None:
    reader, message = before_message(Pattern.IK, 0)
    with pytest.raises(WireError, match="low order"):
        reader.read_message(point.to_bytes(32, "little") + message[32:])


def test_nothing_is_written_to_a_static_key_of_low_order() -> None:
    initiator = Handshake(
        Pattern.NK,
        initiator=True,
        prologue=PROLOGUE,
        ephemeral=INITIATOR_EPHEMERAL,
        remote_static=bytes(32),
    )
    with pytest.raises(WireError, match="low order"):
        initiator.write_message()


def test_another_prologue_is_refused() -> None:
    initiator, responder = open_handshake(Pattern.IK, prologue=b"koe/2" + bytes(8))
    with pytest.raises(WireError, match="not authentic"):
        responder.read_message(initiator.write_message())


def test_a_first_message_for_another_responder_is_refused() -> None:
    initiator, _ = open_handshake(Pattern.NK)
    stranger = Handshake(
        Pattern.NK,
        initiator=False,
        prologue=PROLOGUE,
        ephemeral=RESPONDER_EPHEMERAL,
        static=INITIATOR,
    )
    with pytest.raises(WireError, match="not authentic"):
        stranger.read_message(initiator.write_message())


@patterns
def test_a_message_out_of_turn_is_refused(pattern: Pattern) -> None:
    initiator, responder = open_handshake(pattern)
    with pytest.raises(WireError, match="out of turn"):
        initiator.read_message(bytes(100))
    last = exchange(initiator, responder, numbered_payloads())[-1]
    for side in (initiator, responder):
        with pytest.raises(WireError, match="out of turn"):
            side.read_message(last)


def test_writing_out_of_turn_is_a_bug() -> None:
    _, responder = open_handshake(Pattern.IK)
    with pytest.raises(AssertionError):
        responder.write_message()


def test_splitting_before_the_end_is_a_bug() -> None:
    initiator, _ = open_handshake(Pattern.IK)
    with pytest.raises(AssertionError):
        initiator.split()


@pytest.mark.parametrize(
    ("pattern", "initiator", "static", "remote_static"),
    [
        (Pattern.IK, True, None, RESPONDER.public),
        (Pattern.IK, True, INITIATOR, None),
        (Pattern.IK, False, None, None),
        (Pattern.IK, False, RESPONDER, INITIATOR.public),
        (Pattern.NK, True, None, None),
        (Pattern.NK, False, None, None),
        (Pattern.XX, True, None, None),
        (Pattern.XX, True, INITIATOR, RESPONDER.public),
    ],
)
def test_keys_that_do_not_fit_the_pattern_are_refused(
    pattern: Pattern,
    initiator: bool,
    static: KeyPair | None,
    remote_static: bytes | None,
) -> None:
    with pytest.raises(ValueError, match=pattern.name):
        Handshake(
            pattern,
            initiator=initiator,
            prologue=PROLOGUE,
            ephemeral=bytes(range(32)),
            static=static,
            remote_static=remote_static,
        )


@given(secret=st.binary(min_size=1, max_size=64), label=st.binary(max_size=40))
@pytest.mark.parametrize("length", [1, 31, 32, 33, 64, 100])
def test_derived_keys_are_those_of_rfc_5869(
    secret: bytes, label: bytes, length: int
) -> None:
    expected = HKDF(BLAKE2s(32), length, salt=None, info=label).derive(secret)
    assert derive(secret, label, length) == expected


def test_no_more_is_derived_than_rfc_5869_allows() -> None:
    assert len(derive(b"secret", b"label", 8_160)) == 8_160
    with pytest.raises(ValueError, match="8161"):
        derive(b"secret", b"label", 8_161)


def test_secrets_stay_out_of_what_is_printed() -> None:
    keys = TransportKeys(send=b"s" * 32, receive=b"r" * 32)
    assert repr(keys) == "TransportKeys()"
    assert repr(INITIATOR) == f"KeyPair(public={INITIATOR.public.hex()})"


def flipped_bits(message: bytes) -> Iterator[bytes]:
    for bit in range(8 * len(message)):
        flipped = bytearray(message)
        flipped[bit // 8] ^= 1 << bit % 8
        yield bytes(flipped)


def open_oracle(
    pattern: Pattern,
    *,
    initiator: bool,
    static: bytes | None = None,
    remote_static: bytes | None = None,
    prologue: bytes = PROLOGUE,
    ephemeral: bytes | None = None,
) -> NoiseConnection:
    """Make one side of a handshake with `noiseprotocol`, by default the fixed one."""
    name = f"Noise_{pattern.name}_25519_ChaChaPoly_BLAKE2s"
    oracle = NoiseConnection.from_name(name.encode())
    oracle.set_prologue(prologue)
    if initiator:
        oracle.set_as_initiator()
        static = static or bytes(range(32))
    else:
        oracle.set_as_responder()
        static = static or bytes(range(32, 64))
    if not (initiator and pattern is Pattern.NK):
        oracle.set_keypair_from_private_bytes(Keypair.STATIC, static)
    if initiator and pattern is not Pattern.XX:
        oracle.set_keypair_from_public_bytes(
            Keypair.REMOTE_STATIC, remote_static or RESPONDER.public
        )
    if ephemeral is not None:
        oracle.set_keypair_from_private_bytes(Keypair.EPHEMERAL, ephemeral)
    oracle.start_handshake()
    return oracle
