"""The daemon: one node, its control socket and its calls, until a signal ends it.

Everything is opened in an order that tells the most useful failure first (another
daemon, the identity, the port) and closed in the opposite one: calls are hung up while
the node still has a network.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import trio

from bin.contacts import ContactBook
from bin.control_server import only_daemon, open_control_server
from bin.crash import tell
from bin.errors import CATALOGUE, Problem, ProgramError, problem_of
from bin.methods import About, methods_of
from bin.node import Node
from bin.places import Places
from bin.requests import Audio
from bin.settings import Settings
from bin.switchboard import Answers, Switchboard, open_switchboard
from bin.version import VERSION
from nat.network import Network
from overlay.errors import NoSupernode
from overlay.identity import Identity, short_id
from overlay.keyfile import KeyfileInvalid, KeyfileTooOpen, load_or_create
from overlay.names import check_name
from overlay.node_events import SupernodeMode
from overlay.service import open_node
from overlay.settings import NodeSettings

__all__ = ["load_identity", "open_daemon", "run_daemon", "serve_calls"]

log: Final = logging.getLogger("koe")

READY_PATIENCE_S: Final = 5.0
# Several times what registering takes; then a user would like to be told.


async def run_daemon(settings: Settings, places: Places, network: Network) -> None:
    """Run a daemon until SIGINT or SIGTERM. Raises what stops it from starting."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with open_daemon(settings, places, network):
            async for signal_number in signals:
                log.info("%s: closing", signal.Signals(signal_number).name)
                break


@asynccontextmanager
async def open_daemon(
    settings: Settings, places: Places, network: Network
) -> AsyncIterator[Node]:
    """Run a daemon while the context is open.

    Raises `ProgramError` (201, 203, 204, 205, 802, 803, 804, 805, 810, 811).
    """
    with only_daemon(places):
        identity = load_identity(places.identity_file)
        contacts = ContactBook(places.contacts_file)
        contacts.contacts()
        async with AsyncExitStack() as stack:
            node_settings = _node_settings(settings, contacts)
            try:
                node = await stack.enter_async_context(
                    open_node(
                        node_settings,
                        identity,
                        network,
                        random_bytes=os.urandom,
                        unix_time=time.time(),
                    )
                )
            except OSError as error:
                problem = problem_of(error)
                cause = f"{settings.bind}: {problem.cause}"
                code = "205" if isinstance(error, PermissionError) else problem.code
                raise ProgramError.of(code, cause) from None
            log.info(
                "%s (%s) at %s",
                settings.name or "no name",
                short_id(identity.public_key),
                node.address,
            )
            await stack.enter_async_context(
                serve_calls(node, settings, places, contacts)
            )
            yield node


@asynccontextmanager
async def serve_calls(
    node: Node, settings: Settings, places: Places, contacts: ContactBook
) -> AsyncIterator[None]:
    """Serve the calls and the control socket of a node while the context is open."""
    audio = Audio(settings.microphone, settings.speaker, settings.record)
    about = About(
        name=settings.name,
        version=VERSION,
        identity_file=str(places.identity_file),
        default_audio=audio,
        started_at=time.time(),
        now=time.time,
    )
    answers = Answers(settings.answer, audio)
    async with (
        open_switchboard(node, answers, contacts, time.time) as switchboard,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(_log_events, switchboard)
        nursery.start_soon(_log_readiness, node)
        async with open_control_server(
            places,
            methods_of(node, switchboard, about),
            switchboard.subscribe,
            lambda error: tell(places.crash_log, error),
        ):
            yield
        nursery.cancel_scope.cancel()


def load_identity(file: Path) -> Identity:
    """Read the identity, or make one. Raises `ProgramError` 803 or 804."""
    try:
        return load_or_create(file, os.urandom)
    except (KeyfileTooOpen, KeyfileInvalid) as error:
        code = "803" if isinstance(error, KeyfileTooOpen) else "804"
        title = CATALOGUE[code].title
        problem = Problem(code, title, str(error), error.next_step)
        raise ProgramError(problem) from None
    except OSError as error:
        raise ProgramError.of("804", f"{file}: {error.strerror}") from None


def _node_settings(settings: Settings, contacts: ContactBook) -> NodeSettings:
    try:
        name = None if settings.name is None else check_name(settings.name)
    except ValueError as error:
        raise ProgramError.of("805", f"name {error}") from None
    return NodeSettings(
        bind=settings.bind_address,
        name=name,
        network_name=settings.network,
        seeds=settings.seed_addresses,
        supernode=SupernodeMode(settings.supernode),
        is_contact=_careful(contacts.is_contact),
        known_names=contacts.public_key_of,
        client_version=VERSION,
    )


def _careful(is_contact: Callable[[bytes], bool]) -> Callable[[bytes], bool]:
    """Take everybody for a stranger while the contacts cannot be read.

    Whoever calls must not be able to end the daemon.
    """

    def is_known(public_key: bytes) -> bool:
        try:
            return is_contact(public_key)
        except (ProgramError, OSError) as error:
            log.warning("contacts: %s", error)
            return False

    return is_known


async def _log_events(switchboard: Switchboard) -> None:
    async with switchboard.subscribe() as events:
        async for event in events:
            ended = event.call is not None and event.call.state == "ended"
            # A call's end is told once its recording is complete, too.
            if not (ended and event.kind == "call_changed"):
                log.info("%s: %s", event.kind.replace("_", " "), event.text)


async def _log_readiness(node: Node) -> None:
    with trio.move_on_after(READY_PATIENCE_S):
        await node.wait_ready()
        status = node.status()
        log.info("connected as a %s: %s", status.role, status.why_role)
        return
    why = NoSupernode
    log.warning("notice K%s: %s. %s", why.code, why.title, why.next_step)
