"""From what somebody typed to the presence of one peer, over one or two look-ups.

    key known (a link, a pinned contact) --> by id
    name only      --> by name: one claim: that one; several: the user must choose
    name and id    --> by name: the claim that the id fits

A pinned name goes by its key alone. If the key is gone but somebody else claims the
name, that is said: it is how an impostor would look.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from overlay.errors import (
    IdentityChanged,
    IndexUnreachable,
    InvalidPeerName,
    NameContested,
    NoSupernode,
    NotOnline,
    PeerNotFound,
)
from overlay.identity import short_id
from overlay.lookup import LookupDone, Outcome
from overlay.names import PeerName, parse_peer_name
from overlay.records import Claim, Presence, id_key, name_key
from overlay.views import Found, Step

__all__ = ["find"]

LookUp = Callable[[bytes], Awaitable[LookupDone]]


async def find(
    text: str, known_names: Callable[[str], bytes | None], look_up: LookUp
) -> Found:
    """Find a peer by name, id or link. Raises `OverlayError`."""
    try:
        peer = parse_peer_name(text)
    except ValueError as error:
        raise InvalidPeerName(str(error)) from None
    search = _Search(text, look_up)
    pinned = known_names(peer.name) if peer.name else None
    if peer.public_key is None and pinned is not None and peer.admits(pinned):
        return await search.by_pinned_key(pinned, peer)
    if peer.public_key is not None:
        return await search.by_key(peer.public_key, peer.name)
    if peer.name is None:
        raise InvalidPeerName(
            f"{text!r} is an id without a name: only contacts can be found by it"
        )
    return await search.by_name(peer)


class _Search:
    """One search and the steps it took."""

    def __init__(self, text: str, look_up: LookUp) -> None:
        self._text = text
        self._look_up = look_up
        self._steps: list[Step] = []
        self._elapsed_s = 0.0

    async def by_pinned_key(self, public_key: bytes, peer: PeerName) -> Found:
        try:
            return await self.by_key(public_key, peer.name)
        except PeerNotFound:
            assert peer.name is not None
            claims = await self._claims(peer.name)
            others = [c for c in claims if c.public_key != public_key]
            if others and len(others) == len(claims):
                raise IdentityChanged(
                    f"{peer.name} was {short_id(public_key)} and is now claimed by "
                    + _listed(others)
                ) from None
            raise NotOnline(f"{self._text} is known, but is not online") from None

    async def by_key(self, public_key: bytes, name: str | None) -> Found:
        done = await self._ask(id_key(public_key))
        for record in done.records:
            if isinstance(record, Presence) and record.public_key == public_key:
                return self._found(record, name)
        raise PeerNotFound(f"no supernode knows {self._text}")

    async def by_name(self, peer: PeerName) -> Found:
        assert peer.name is not None
        done = await self._ask(name_key(peer.name))
        claims = [r for r in done.records if isinstance(r, Claim)]
        meant = [claim for claim in claims if peer.admits(claim.public_key)]
        if not meant:
            also = f"; it is claimed by {_listed(claims)}" if claims else ""
            raise PeerNotFound(f"nobody is registered as {self._text}{also}")
        if len(meant) > 1:
            raise NameContested(f"{peer.name} is claimed by {_listed(meant)}")
        for record in done.records:
            is_theirs = record.public_key == meant[0].public_key
            if isinstance(record, Presence) and is_theirs:
                return self._found(record, peer.name)
        try:
            return await self.by_key(meant[0].public_key, peer.name)
        except PeerNotFound:
            raise NotOnline(f"{self._text} is known, but is not online") from None

    async def _claims(self, name: str) -> list[Claim]:
        done = await self._ask(name_key(name))
        return [record for record in done.records if isinstance(record, Claim)]

    async def _ask(self, key: bytes) -> LookupDone:
        done = await self._look_up(key)
        self._elapsed_s += done.finished_at - done.started_at
        self._steps += [
            Step(step.address, step.answer.value, step.rtt_s, step.at)
            for step in done.steps
        ]
        if done.outcome is Outcome.UNREACHABLE:
            if not done.steps:
                raise NoSupernode("this node has no home: it cannot look anybody up")
            asked = f"{len(done.steps)} supernodes were asked for {self._text}"
            raise IndexUnreachable(f"{asked}, too few of them answered")
        return done

    def _found(self, presence: Presence, name: str | None) -> Found:
        return Found(
            public_key=presence.public_key,
            name=name,
            short_id=short_id(presence.public_key),
            presence=presence,
            steps=tuple(self._steps),
            elapsed_s=self._elapsed_s,
        )


def _listed(claims: list[Claim]) -> str:
    return ", ".join(f"{claim.name}-{short_id(claim.public_key)}" for claim in claims)
