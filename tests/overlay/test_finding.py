"""From what somebody typed to one peer's presence, or to a reason why not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from nat.address import Address
from overlay.errors import (
    IdentityChanged,
    IndexUnreachable,
    InvalidPeerName,
    NameContested,
    NoSupernode,
    NotOnline,
    OverlayError,
    PeerNotFound,
)
from overlay.finding import find
from overlay.identity import short_id
from overlay.lookup import AnswerKind, LookupDone, Outcome, Step
from overlay.names import PeerName, format_key
from overlay.records import Claim, Presence, id_key, name_key
from overlay.views import Found
from tests.overlay.samples import NOW, claim, identity, presence

ALICE, BOB = identity(1).public_key, identity(2).public_key
STEP = Step(Address("192.0.2.1", 7000), None, AnswerKind.VALUE, 0.05, NOW)


class Index:
    """Answers look-ups from a table; what is not in it nobody has."""

    def __init__(self, **by_name: tuple[Claim | Presence, ...]) -> None:
        self.table = {name_key(name): found for name, found in by_name.items()}
        self.asked: list[bytes] = []
        self.outcome = Outcome.NOT_FOUND
        self.steps: tuple[Step, ...] = (STEP,)

    def online(self, *numbers: int) -> Index:
        for number in numbers:
            key = id_key(identity(number).public_key)
            self.table[key] = (presence(number),)
        return self

    async def look_up(self, key: bytes) -> LookupDone:
        self.asked.append(key)
        found = self.table.get(key, ())
        outcome = Outcome.FOUND if found else self.outcome
        return LookupDone(outcome, found, self.steps, NOW, NOW + 0.1)

    async def find(self, text: str, **pinned: bytes) -> Found:
        return await find(text, pinned.get, self.look_up)


def both(number: int) -> tuple[Claim, Presence]:
    return claim(number, "alice"), presence(number)


async def test_a_name_with_one_claim_is_found_in_one_look_up() -> None:
    index = Index(alice=both(1))
    found = await index.find("Alice ")
    assert (found.public_key, found.name) == (ALICE, "alice")
    assert found.presence == presence(1)
    assert found.elapsed_s == pytest.approx(0.1)
    assert [step.answer for step in found.steps] == ["VALUE"]
    assert index.asked == [name_key("alice")]


async def test_a_claim_without_its_presence_is_followed_by_id() -> None:
    index = Index(alice=(claim(1, "alice"),)).online(1)
    found = await index.find("alice")
    assert found.public_key == ALICE
    assert index.asked == [name_key("alice"), id_key(ALICE)]
    assert found.elapsed_s == pytest.approx(0.2)


async def test_a_link_or_a_key_is_found_by_id_alone() -> None:
    for text in (PeerName.of_key(ALICE, "alice").link(), format_key(ALICE)):
        index = Index().online(1)
        assert (await index.find(text)).public_key == ALICE
        assert index.asked == [id_key(ALICE)]


async def test_a_pinned_name_is_found_by_its_key_alone() -> None:
    index = Index(alice=both(2)).online(1)
    assert (await index.find("alice", alice=ALICE)).public_key == ALICE
    assert index.asked == [id_key(ALICE)]


async def test_an_id_tells_which_of_several_claims_is_meant() -> None:
    index = Index(alice=(claim(1, "alice"), claim(2, "alice"))).online(1, 2)
    assert (await index.find(f"alice-{short_id(BOB)}")).public_key == BOB


async def test_a_pinned_name_with_another_id_means_the_other() -> None:
    index = Index(alice=both(2))
    found = await index.find(f"alice-{short_id(BOB)}", alice=ALICE)
    assert found.public_key == BOB


@pytest.mark.parametrize(
    ("text", "index", "error"),
    [
        ("a!", Index, InvalidPeerName),
        ("", Index, InvalidPeerName),
        (short_id(ALICE), Index, InvalidPeerName),
        ("alice", Index, PeerNotFound),
        (format_key(ALICE), Index, PeerNotFound),
        (f"alice-{short_id(BOB)}", lambda: Index(alice=both(1)), PeerNotFound),
        ("alice", lambda: Index(alice=(*both(1), *both(2))), NameContested),
        ("alice", lambda: Index(alice=(claim(1, "alice"),)), NotOnline),
    ],
)
async def test_what_cannot_be_found_says_why(
    text: str, index: Callable[[], Index], error: type[OverlayError]
) -> None:
    with pytest.raises(error):
        await index().find(text)


async def test_a_pinned_peer_that_is_gone_is_not_online() -> None:
    with pytest.raises(NotOnline):
        await Index().find("alice", alice=ALICE)
    with pytest.raises(NotOnline):
        await Index(alice=(claim(1, "alice"),)).find("alice", alice=ALICE)


async def test_somebody_else_under_a_pinned_name_is_told() -> None:
    with pytest.raises(IdentityChanged, match=short_id(BOB)):
        await Index(alice=both(2)).find("alice", alice=ALICE)


async def test_an_index_that_does_not_answer_is_no_absence() -> None:
    index = Index()
    index.outcome = Outcome.UNREACHABLE
    with pytest.raises(IndexUnreachable):
        await index.find("alice")
    with pytest.raises(IndexUnreachable):
        await index.find("alice", alice=ALICE)
    index.steps = ()
    with pytest.raises(NoSupernode):
        await index.find("alice")
