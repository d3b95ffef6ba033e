"""Whole nodes on the virtual internet, for scenarios."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import trio

from nat.address import Address
from overlay.identity import Identity
from overlay.node_events import SupernodeMode
from overlay.service import Node, open_node
from overlay.settings import NodeSettings
from tests.vnet import Host, Internet

__all__ = ["Network", "open_network"]

PORT = 7000


class Network:
    """Nodes by name, each on a host of its own; all are contacts of each other."""

    def __init__(self, internet: Internet, nursery: trio.Nursery) -> None:
        self.internet = internet
        self.nodes: dict[str, Node] = {}
        self.hosts: dict[str, Host] = {}
        self.identities: dict[str, Identity] = {}
        self.seeds: list[Address] = []
        self.strangers: set[str] = set()
        self._nursery = nursery

    def __getitem__(self, name: str) -> Node:
        return self.nodes[name]

    async def start(
        self,
        name: str,
        *,
        supernode: SupernodeMode = SupernodeMode.OFF,
        host: Host | None = None,
        seeds: Sequence[Address] | None = None,
    ) -> Node:
        """Start a node; it stops with the network."""

        async def run(task_status: trio.TaskStatus[Node]) -> None:
            opening = self.open(name, supernode=supernode, host=host, seeds=seeds)
            async with opening as node:
                task_status.started(node)
                await trio.sleep_forever()

        started: Node = await self._nursery.start(run)
        return started

    @asynccontextmanager
    async def open(
        self,
        name: str,
        *,
        supernode: SupernodeMode = SupernodeMode.OFF,
        host: Host | None = None,
        seeds: Sequence[Address] | None = None,
    ) -> AsyncIterator[Node]:
        """Run a node while the context is open."""
        host = host or self.hosts.get(name) or self.internet.add_host(name)
        identity = self.identities.get(name) or Identity.generate(host.random_bytes)
        self.hosts[name], self.identities[name] = host, identity
        settings = NodeSettings(
            bind=host.at(PORT),
            name=name,
            is_contact=self._contact_test(name),
            known_names=lambda _: None,
            client_version="test",
            seeds=tuple(self.seeds if seeds is None else seeds),
            supernode=supernode,
        )
        async with open_node(
            settings,
            identity,
            host,
            random_bytes=host.random_bytes,
            unix_time=host.now(),
        ) as node:
            self.nodes[name] = node
            yield node

    def _contact_test(self, name: str) -> Callable[[bytes], bool]:
        def is_contact(public_key: bytes) -> bool:
            known = {
                identity.public_key
                for other, identity in self.identities.items()
                if other not in self.strangers
            }
            return name not in self.strangers and public_key in known

        return is_contact


@asynccontextmanager
async def open_network(
    internet: Internet, supernodes: int, leaves: Sequence[str] = ()
) -> AsyncIterator[Network]:
    """Run supernodes s0, s1, ... and leaves, all ready, while the context is open."""
    async with trio.open_nursery() as nursery:
        network = Network(internet, nursery)
        for number in range(supernodes):
            node = await network.start(f"sn{number}", supernode=SupernodeMode.ON)
            if number < 3:
                network.seeds.append(node.address)
        await trio.sleep(5)
        for name in leaves:
            await network.start(name)
        for node in network.nodes.values():
            await node.wait_ready()
        await trio.sleep(5)
        yield network
        nursery.cancel_scope.cancel()
