"""Sealed datagrams: frozen bytes, abuse of every kind, and the replay window."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from nat.errors import WireError
from overlay.noise import TransportKeys
from overlay.seal import (
    COUNTER_LIMIT,
    REPLAY_WINDOW,
    SEAL_BYTES,
    Admission,
    Kind,
    Opener,
    ReplayWindow,
    Sealer,
    SealStatistics,
    Transport,
    header_of,
    open_once,
    seal_once,
)
from tests.golden import read_golden

OUR_KEY = bytes(range(32))
THEIR_KEY = bytes(range(32, 64))
OUR_INDEX = 0x01020304
THEIR_INDEX = 0x0A0B0C0D
FRAME = bytes(range(80))

kinds = pytest.mark.parametrize("kind", list(Kind), ids=lambda kind: kind.name)


def open_transports() -> tuple[Transport, Transport]:
    """Make both ends of one session."""
    ours = Transport(TransportKeys(send=OUR_KEY, receive=THEIR_KEY), THEIR_INDEX)
    theirs = Transport(TransportKeys(send=THEIR_KEY, receive=OUR_KEY), OUR_INDEX)
    return ours, theirs


@kinds
def test_sealed_bytes_are_the_frozen_ones(kind: Kind) -> None:
    ours, _ = open_transports()
    golden = read_golden("seal.txt")
    for counter, plaintext in enumerate((FRAME, b"")):
        name = f"{kind.name.lower()}_{counter}"
        assert ours.seal(kind, plaintext).hex() == golden[name].hex()


def test_an_xchacha_seal_is_the_frozen_one() -> None:
    sealed = seal_once(OUR_KEY, bytes(range(24)), b"plaintext", b"associated")
    assert sealed.hex() == read_golden("seal.txt")["xchacha"].hex()


@given(plaintexts=st.lists(st.tuples(st.sampled_from(Kind), st.binary(max_size=1_100))))
def test_what_is_sealed_is_opened(plaintexts: list[tuple[Kind, bytes]]) -> None:
    ours, theirs = open_transports()
    counters = dict.fromkeys(Kind, 0)
    for kind, plaintext in plaintexts:
        datagram = ours.seal(kind, plaintext)
        assert len(datagram) == len(plaintext) + SEAL_BYTES
        assert theirs.open(datagram) == (kind, counters[kind], plaintext)
        counters[kind] += 1


@kinds
def test_the_header_tells_kind_index_and_counter(kind: Kind) -> None:
    ours, _ = open_transports()
    ours.seal(kind, FRAME)
    assert header_of(ours.seal(kind, FRAME)) == (kind, THEIR_INDEX, 1)


@kinds
def test_every_flipped_bit_is_refused_and_the_datagram_still_opens(kind: Kind) -> None:
    ours, theirs = open_transports()
    datagram = ours.seal(kind, FRAME)
    for bit in range(8 * len(datagram)):
        flipped = bytearray(datagram)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(WireError):
            theirs.open(bytes(flipped))
    assert theirs.open(datagram) == (kind, 0, FRAME)
    # Eight of them make no kind, and one a counter past the limit.
    assert theirs.statistics().tampered == 8 * len(datagram) - 9


@kinds
def test_every_truncation_is_refused(kind: Kind) -> None:
    ours, theirs = open_transports()
    datagram = ours.seal(kind, FRAME)
    for length in range(len(datagram)):
        with pytest.raises(WireError):
            theirs.open(datagram[:length])
    assert theirs.statistics().tampered == len(datagram) - SEAL_BYTES


def test_trailing_bytes_are_tampering() -> None:
    ours, theirs = open_transports()
    with pytest.raises(WireError, match="not authentic"):
        theirs.open(ours.seal(Kind.DATA, FRAME) + b"\0")


@given(garbage=st.binary(max_size=200))
def test_garbage_is_refused(garbage: bytes) -> None:
    _, theirs = open_transports()
    for datagram in (garbage, b"\x07" + garbage, b"\x08" + bytes(12) + garbage):
        with pytest.raises(WireError):
            theirs.open(datagram)


def test_our_own_datagram_sent_back_is_refused() -> None:
    ours, _ = open_transports()
    with pytest.raises(WireError, match="not authentic"):
        ours.open(ours.seal(Kind.DATA, FRAME))


def test_a_datagram_of_one_kind_is_none_of_the_other() -> None:
    data, media = (Sealer(kind, THEIR_INDEX, OUR_KEY) for kind in Kind)
    assert data.seal(FRAME)[13:] != media.seal(FRAME)[13:]
    ours, theirs = open_transports()
    datagram = ours.seal(Kind.DATA, FRAME)
    with pytest.raises(WireError, match="not authentic"):
        theirs.open(bytes((Kind.MEDIA,)) + datagram[1:])


def test_a_replayed_datagram_is_refused_and_counted() -> None:
    ours, theirs = open_transports()
    datagram = ours.seal(Kind.MEDIA, FRAME)
    theirs.open(datagram)
    for _ in range(3):
        with pytest.raises(WireError, match="replayed"):
            theirs.open(datagram)
    assert theirs.statistics() == SealStatistics(
        sealed=0, opened=1, reordered=0, tampered=0, replayed=3, too_old=0
    )


def test_reordering_inside_the_window_is_allowed_and_counted() -> None:
    ours, theirs = open_transports()
    datagrams = [ours.seal(Kind.MEDIA, FRAME) for _ in range(REPLAY_WINDOW)]
    for datagram in reversed(datagrams):
        theirs.open(datagram)
    statistics = theirs.statistics()
    assert statistics.opened == REPLAY_WINDOW
    assert statistics.reordered == REPLAY_WINDOW - 1
    assert ours.statistics().sealed == REPLAY_WINDOW


def test_what_is_older_than_the_window_is_refused_and_counted() -> None:
    ours, theirs = open_transports()
    datagrams = [ours.seal(Kind.MEDIA, FRAME) for _ in range(REPLAY_WINDOW + 1)]
    theirs.open(datagrams[-1])
    with pytest.raises(WireError, match="too_old"):
        theirs.open(datagrams[0])
    theirs.open(datagrams[1])
    assert theirs.statistics().too_old == 1


def test_a_tampered_counter_does_not_move_the_window() -> None:
    ours, theirs = open_transports()
    datagram = ours.seal(Kind.DATA, FRAME)
    forged = datagram[:5] + (2**40).to_bytes(8, "little") + datagram[13:]
    with pytest.raises(WireError):
        theirs.open(forged)
    assert theirs.newest(Kind.DATA) == -1
    theirs.open(datagram)
    assert theirs.newest(Kind.DATA) == 0


def test_the_kinds_count_apart() -> None:
    ours, theirs = open_transports()
    for _ in range(3):
        theirs.open(ours.seal(Kind.MEDIA, FRAME))
    theirs.open(ours.seal(Kind.DATA, FRAME))
    assert (theirs.newest(Kind.DATA), theirs.newest(Kind.MEDIA)) == (0, 2)


def test_no_counter_is_used_past_the_limit() -> None:
    sealer = Sealer(Kind.DATA, THEIR_INDEX, OUR_KEY)
    sealer.counter = COUNTER_LIMIT - 1
    last = sealer.seal(FRAME)
    assert Opener(OUR_KEY).open(last, header_of(last).counter) == FRAME
    with pytest.raises(OverflowError):
        sealer.seal(FRAME)


def test_a_counter_past_the_limit_is_no_header() -> None:
    beyond = b"\x07" + bytes(4) + COUNTER_LIMIT.to_bytes(8, "little") + bytes(16)
    with pytest.raises(WireError, match="counter"):
        header_of(beyond)


@given(first=st.integers(0, 255).filter(lambda first: first not in tuple(Kind)))
def test_another_first_byte_is_no_sealed_datagram(first: int) -> None:
    with pytest.raises(WireError, match="kind"):
        header_of(bytes((first,)) + bytes(40))


@given(nonce=st.binary(min_size=24, max_size=24), plaintext=st.binary(), ad=st.binary())
def test_an_xchacha_seal_opens_with_all_that_made_it_only(
    nonce: bytes, plaintext: bytes, ad: bytes
) -> None:
    sealed = seal_once(OUR_KEY, nonce, plaintext, ad)
    assert open_once(OUR_KEY, nonce, sealed, ad) == plaintext
    for key, message, associated in (
        (THEIR_KEY, sealed, ad),
        (OUR_KEY, sealed[:-1], ad),
        (OUR_KEY, sealed, ad + b"\0"),
        (OUR_KEY, b"", ad),
    ):
        with pytest.raises(WireError):
            open_once(key, nonce, message, associated)


class WindowAgainstSet(RuleBasedStateMachine):
    """A replay window beside the plain set of all counters that ever came."""

    def __init__(self) -> None:
        super().__init__()
        self.window = ReplayWindow(size=16)
        self.came: set[int] = set()

    def expected(self, counter: int) -> Admission:
        newest = max(self.came, default=-1)
        if counter > newest:
            return Admission.NEWEST
        if counter <= newest - 16:
            return Admission.TOO_OLD
        return Admission.REPLAYED if counter in self.came else Admission.REORDERED

    def admit(self, counter: int) -> None:
        expected = self.expected(counter)
        assert self.window.admit(counter) is expected
        if expected is not Admission.TOO_OLD:
            self.came.add(counter)

    @rule(counter=st.integers(0, COUNTER_LIMIT - 1))
    def any_counter_comes(self, counter: int) -> None:
        self.admit(counter)

    @rule(distance=st.integers(-20, 20))
    def a_counter_near_the_newest_comes(self, distance: int) -> None:
        self.admit(max(0, self.window.newest + distance))

    @invariant()
    def the_newest_and_the_counts_agree(self) -> None:
        assert self.window.newest == max(self.came, default=-1)
        counts = self.window.counts
        taken = counts[Admission.NEWEST] + counts[Admission.REORDERED]
        assert taken == len(self.came)


TestWindowAgainstSet = WindowAgainstSet.TestCase
