"""What a node's machines know, as the values that programs show (`overlay.views`)."""

from __future__ import annotations

from collections.abc import Iterable

from nat.address import Address
from overlay.identity import short_id
from overlay.node import NodeMachine
from overlay.node_events import Role
from overlay.records import Descriptor
from overlay.ring import Ring, Seat
from overlay.views import HomeInfo, NodeStatus, SupernodeInfo

__all__ = ["node_counters", "node_status", "supernode_infos"]


def node_status(machine: NodeMachine, address: Address) -> NodeStatus:
    """Tell how a node is connected and what it counted."""
    homes = machine.station.homes.homes if machine.station.homes else ()
    counters = node_counters(machine)
    return NodeStatus(
        role=str(machine.role),
        why_role=machine.station.why_role,
        address=address,
        observed=machine.station.homes.observed if machine.station.homes else None,
        homes=[
            HomeInfo(
                address=home.peer.address,
                rtt_s=home.rtt_s,
                primary=rank == 0,
                load=home.load,
                registered=home.registered,
            )
            for rank, home in enumerate(homes)
        ],
        supernodes_known=_supernodes_known(machine),
        records_held=counters.get("records", 0),
        leaves_registered=counters.get("leaves", 0),
        sessions=counters["sessions"],
        relay_calls=counters.get("relay_channels", 0),
        counters=counters,
    )


def node_counters(machine: NodeMachine) -> dict[str, int]:
    """Tell every count of what a node holds, refused and dropped."""
    gate = machine.gate.statistics()
    calls = machine.calls.statistics
    counters = {
        **machine.endpoint.statistics(),
        "datagrams_unknown": machine.datagrams_unknown,
        "bodies_refused": machine.bodies_refused,
        "answers_refused": machine.dispatch.answers_refused,
        "gate_refused": gate.refused,
        "calls_placed": calls.placed,
        "calls_received": calls.received,
        "calls_busy": calls.busy,
        "openings_refused": calls.refused_openings,
        "call_datagrams_unknown": calls.unknown_datagrams,
        "call_datagrams_refused": calls.refused_datagrams,
        "call_signals_unknown": calls.unknown_signals,
    }
    return counters | (machine.supernode.statistics() if machine.supernode else {})


def supernode_infos(
    machine: NodeMachine, found: Iterable[Descriptor]
) -> list[SupernodeInfo]:
    """Tell the supernodes, in the order of the ring, with the part each owns."""
    ring = Ring()
    by_static = {descriptor.dh_public: descriptor for descriptor in found}
    for descriptor in by_static.values():
        ring.add(Seat.of(descriptor))
    return [
        _supernode_info(machine, by_static[seat.static], ring.share(seat.static))
        for seat in ring
    ]


def _supernode_info(
    machine: NodeMachine, descriptor: Descriptor, share: float
) -> SupernodeInfo:
    state, rtt_s, load, keys_held = "alive", None, None, None
    if machine.supernode is not None:
        if descriptor.dh_public == machine.supernode.members.descriptor.dh_public:
            state, rtt_s = "this node", 0.0
            load = machine.supernode.registry.load
            keys_held = len(machine.supernode.index.keys())
        for info in machine.supernode.members.others():
            if info.descriptor.dh_public == descriptor.dh_public:
                state, rtt_s, load = info.state.value, info.rtt_s, info.load
    for home in machine.station.homes.homes if machine.station.homes else ():
        if home.static == descriptor.dh_public:
            state, rtt_s, load = "home", home.rtt_s, home.load
    return SupernodeInfo(
        address=descriptor.address,
        short=short_id(descriptor.public_key),
        role=str(Role.SUPERNODE),
        share=share,
        state=state,
        rtt_s=rtt_s,
        load=load,
        keys_held=keys_held,
        version=descriptor.client_version,
    )


def _supernodes_known(machine: NodeMachine) -> int:
    if machine.supernode is not None:
        return len(machine.supernode.members.ring)
    return len(machine.station.homes.known) if machine.station.homes else 0
