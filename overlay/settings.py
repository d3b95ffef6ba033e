"""What a user says about a node, and what follows from it once its socket is bound."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from nat.address import Address
from nat.network import Network
from overlay.identity import Identity
from overlay.node_events import NodeConfig, SupernodeMode

__all__ = ["NodeSettings", "node_config"]

UNSPECIFIED: Final = ("0.0.0.0", "::")
# Bound everywhere: then the machine's own addresses are what others can try.


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """What makes a node: where it binds, who it is called, whom it knows.

    `is_contact(public_key)` and `known_names(name)` ask the contacts; `advertise` is
    where others reach us if that is not where we bind.
    """

    bind: Address
    name: str | None
    is_contact: Callable[[bytes], bool]
    known_names: Callable[[str], bytes | None]
    client_version: str
    network_name: str = "koe"
    seeds: tuple[Address, ...] = ()
    supernode: SupernodeMode = SupernodeMode.AUTO
    advertise: Address | None = None
    voices_max: int = 1


def node_config(
    settings: NodeSettings,
    identity: Identity,
    network: Network,
    bound: Address,
    random_bytes: Callable[[int], bytes],
) -> NodeConfig:
    """Say who we are and where we are reached, now that the socket has its port."""
    everywhere = bound.host in UNSPECIFIED
    hosts = tuple(network.local_hosts()) if everywhere else (bound.host,)
    reached_at = Address(hosts[0], bound.port) if hosts else bound
    return NodeConfig(
        identity=identity,
        name=settings.name,
        address=settings.advertise or reached_at,
        hosts=hosts,
        network_name=settings.network_name,
        seeds=tuple(seed for seed in settings.seeds if seed != reached_at),
        supernode=settings.supernode,
        is_contact=settings.is_contact,
        client_version=settings.client_version,
        random_bytes=random_bytes,
        voices_max=settings.voices_max,
    )
