"""What a node signs about itself."""

from __future__ import annotations

from nat.address import Address
from overlay.ask import Peer
from overlay.own_records import PRESENCE_TTL_S, OwnRecords
from overlay.records import read_claim, read_presence
from tests.overlay.samples import NOW, identity, peer


def records(name: str | None = "alice") -> OwnRecords:
    return OwnRecords(identity(1), name, "0.1.0", NOW)


def test_a_presence_tells_up_to_three_homes_whose_keys_are_known() -> None:
    ours = records()
    keyless = Peer(Address("192.0.2.1", 7000))
    written = ours.write_presence([peer(2), keyless, peer(3)], NOW)
    assert read_presence(written.raw) == written
    statics = [home.static for home in written.homes]
    assert statics == [identity(2).dh_public, identity(3).dh_public]
    assert written.ttl_s == PRESENCE_TTL_S
    five = ours.write_presence([peer(number) for number in range(5)], NOW)
    assert len(five.homes) == 3


def test_numbers_grow_even_if_the_clock_stands_or_goes_back() -> None:
    ours = records()
    seqs = [ours.presence.seq]
    for now in (NOW, NOW, NOW - 3_600, NOW + 1):
        seqs.append(ours.write_presence([], now).seq)
    assert seqs == sorted(set(seqs))
    assert seqs[-1] == int((NOW + 1) * 1_000)


def test_a_claim_is_signed_once_if_there_is_a_name() -> None:
    assert read_claim(records().claim_raw).name == "alice"
    assert records(None).claim is None
    assert records(None).claim_raw == b""
