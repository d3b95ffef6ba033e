"""The sessions of a node, by the peer's key, by address, and by the indexes in use.

A peer may have two sessions for a while, when it was found by its address alone and had
one already: the newer one counts. Sans-IO.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from nat.address import Address
from overlay.session import Session, SessionState

__all__ = ["SESSIONS_MAX", "SessionTable"]

SESSIONS_MAX: Final = 4_096
# A home's 750 leaves, the supernodes it probes and stores with, callers passing by. The
# needed ones do not give way; they are bounded by those who need them.


class SessionTable:
    """Who is who among the sessions; lives as long as the node."""

    def __init__(self) -> None:
        self._indexes: dict[Session, set[int]] = {}
        self._by_static: dict[bytes, Session] = {}
        self._by_index: dict[int, Session] = {}

    def __len__(self) -> int:
        return len(self._indexes)

    def __iter__(self) -> Iterator[Session]:
        return iter(tuple(self._indexes))

    def with_static(self, static: bytes) -> Session | None:
        """Give the session with a peer."""
        return self._by_static.get(static)

    def open_with(self, static: bytes) -> Session | None:
        """Give the session with a peer if it is open."""
        session = self._by_static.get(static)
        is_open = session is not None and session.state is SessionState.OPEN
        return session if is_open else None

    def with_index(self, index: int) -> Session | None:
        """Give the session that datagrams with this index are for."""
        return self._by_index.get(index)

    def at(self, address: Address) -> Session | None:
        """Give a session with whoever is at this address."""
        for session in self._indexes:
            # Not one that somebody opened in that address's name.
            is_theirs = session.static is None or session.proven == address
            if is_theirs and session.address == address:
                return session
        return None

    def idlest(self, is_needed: Callable[[bytes], bool]) -> Session | None:
        """Give the one to spare if the table is full: not needed, unused longest."""
        if len(self._indexes) < SESSIONS_MAX:
            return None
        for session in self._indexes:  # the order of use
            if session.static is None or not is_needed(session.static):
                return session
        return None

    def add(self, session: Session) -> None:
        """Take in a new one."""
        self._indexes[session] = set()
        self.update(session)

    def update(self, session: Session) -> None:
        """Note what a session's key and indexes are now."""
        before = self._indexes.get(session)
        if before is None:
            return
        now = session.indexes()
        for gone in before - now:
            del self._by_index[gone]
        self._by_index.update(dict.fromkeys(now - before, session))
        del self._indexes[session]
        self._indexes[session] = now

    def name(self, session: Session) -> None:
        """Note whose session this is: it counts for that peer from now on."""
        if session.static is not None:
            self._by_static[session.static] = session

    def remove(self, session: Session) -> bool:
        """Take one out; whether it was the one that counts for its peer."""
        for index in self._indexes.pop(session, ()):
            self._by_index.pop(index, None)
        static = session.static
        if static is None or self._by_static.get(static) is not session:
            return False
        del self._by_static[static]
        return True
