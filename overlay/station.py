"""What a node is to others: a leaf with homes, or a supernode. Sans-IO.

               nobody answers, and nobody is named
    (start) --> LEAF ---------------------------------> SUPERNODE
       '--------- it was told to be one -------------------^

A leaf's way home is `overlay.homes`, what a supernode does is `overlay.supernode`.
Either way our presence is published: by the primary home, or by ourselves. Promotion by
invitation and demotion by draining find their place here.
"""

from __future__ import annotations

import math
from typing import Final

from overlay.ask import Asker, Peer
from overlay.home import AtHome, HomeLost, NobodyAnswers
from overlay.homes import Homes
from overlay.messages import Goodbye, LeaveRelay, Notice, Signal
from overlay.node_events import (
    NodeConfig,
    NodeEvent,
    Ready,
    Role,
    RoleChanged,
    SupernodeMode,
)
from overlay.own_records import OwnRecords
from overlay.publication import Published
from overlay.supernode import Delivered, Supernode, SupernodeEvent

__all__ = ["Station"]

REFRESH_S: Final = 300.0
# Of a supernode's own presence; a leaf's is refreshed by `overlay.homes`.


class Station:
    """The role of one node; lives as long as the node."""

    def __init__(self, config: NodeConfig, records: OwnRecords) -> None:
        self.us: Final = Peer(config.address, config.identity.dh_public)
        self.homes: Homes | None = None
        self.supernode: Supernode | None = None
        self.why_role = "it has just started"
        self._config = config
        self._records = records
        self._refresh_at = math.inf
        self._deliveries: list[Delivered] = []
        self._events: list[NodeEvent] = []

    @property
    def role(self) -> Role:
        """Whether the node serves others."""
        return Role.LEAF if self.supernode is None else Role.SUPERNODE

    def begin(self, now: float) -> None:
        """Join the network, or be its first node."""
        if self._config.supernode is SupernodeMode.ON:
            self._promote("it was told to be one (--supernode on)", now)
            return
        self.why_role = "it looks for supernodes"
        self.homes = Homes(
            self._config.seeds,
            lambda homes, at: self._records.write_presence(homes, at).raw,
            self._records.claim_raw,
            self._config.random_bytes,
            self._config.homes_timing,
        )
        self.homes.begin(now)

    def homes_to_ask(self) -> list[Peer]:
        """Give whom to ask first: our homes, or ourselves."""
        if self.supernode is not None:
            return [self.us]
        return [home.peer for home in self.homes.homes] if self.homes else []

    def needs(self, static: bytes) -> bool:
        """Whether a session with this node must not make room for another."""
        if self.supernode is not None:
            return self.supernode.needs(static)
        homes = self.homes.homes if self.homes else ()
        return any(home.static == static for home in homes)

    def askers(self) -> list[Asker]:
        """Give the machines that ask."""
        askers: list[Asker] = [] if self.homes is None else [self.homes]
        return askers if self.supernode is None else [*askers, *self.supernode.askers()]

    def receive_notice(self, static: bytes, notice: Notice, now: float) -> bool:
        """Take what another node says; False if there is more to be done about it."""
        supernode = self.supernode
        match notice:
            case Goodbye():
                if supernode is not None:
                    supernode.members.goodbye(static, now)
                    supernode.peer_left(static, now)
                if self.homes is not None:
                    self.homes.goodbye(static, now)
                return False
            case LeaveRelay(channel):
                if supernode is not None:
                    supernode.relay.leave(channel, static, now)
            case Signal(introduction):
                if supernode is None or introduction not in supernode.introductions:
                    return False
                supernode.receive_signal(notice, static, now)
        return True

    def handle_timeout(self, now: float) -> None:
        """Do what is due."""
        if self.homes is not None:
            self.homes.handle_timeout(now)
        if self.supernode is not None:
            self.supernode.handle_timeout(now)
        if now >= self._refresh_at:
            self._publish_own(now)

    def next_timeout(self) -> float:
        """Give the instant at which something is due."""
        homes_at = self.homes.next_timeout() if self.homes else math.inf
        supernode_at = self.supernode.next_timeout() if self.supernode else math.inf
        return min(self._refresh_at, homes_at, supernode_at)

    def settle(self, now: float) -> bool:
        """Take in what happened inside; whether anything did."""
        homes_events = self.homes.events() if self.homes else []
        for homes_event in homes_events:
            match homes_event:
                case AtHome(_, stored, owners):
                    self.why_role = "it is a leaf: supernodes are there already"
                    self._events.extend((homes_event, Ready(stored, owners)))
                case HomeLost():
                    self._events.append(homes_event)
                case NobodyAnswers():
                    self._take_nobody(homes_event, now)
        if self.supernode is None:
            return bool(homes_events)
        self.supernode.settle(now)
        events = self.supernode.events()
        for event in events:
            self._take(event)
        return bool(homes_events or events)

    def deliveries(self) -> list[Delivered]:
        """Drain what our own introducer has for us."""
        deliveries, self._deliveries = self._deliveries, []
        return deliveries

    def events(self) -> list[NodeEvent]:
        """Drain what happened."""
        events, self._events = self._events, []
        return events

    # -- inside ------------------------------------------------------------------------

    def _take(self, event: SupernodeEvent) -> None:
        match event:
            case Delivered():
                self._deliveries.append(event)
            case Published(public_key, _, stored, owners):
                if public_key == self._config.identity.public_key:
                    self._events.append(Ready(stored, owners))
            case _:
                self._events.append(event)

    def _take_nobody(self, event: NobodyAnswers, now: float) -> None:
        alone = not self._config.seeds and self.homes and not self.homes.known
        if self._config.supernode is SupernodeMode.AUTO and alone:
            self._promote("no other node is known: it is the first of its network", now)
        else:
            self.why_role = "no supernode answers"
            self._events.append(event)

    def _promote(self, why: str, now: float) -> None:
        """Serve others from now on."""
        config = self._config
        known = self.homes.known.peers() if self.homes else ()
        self.homes = None
        self.why_role = why
        self.supernode = Supernode(
            config.identity,
            config.address,
            seeds=[*map(Peer, config.seeds), *known],
            client_version=config.client_version,
            random_bytes=config.random_bytes,
            now=now,
            timing=config.members_timing,
        )
        self._events.append(RoleChanged(Role.SUPERNODE, why))
        self._publish_own(now)

    def _publish_own(self, now: float) -> None:
        assert self.supernode is not None
        self._refresh_at = now + REFRESH_S
        presence = self._records.write_presence((self.us,), now)
        self.supernode.publish_own(presence, self._records.claim, now)
