"""A daemon around a fake node: its control socket is real, its network is not."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import trio
import trio.testing

from bin.contacts import ContactBook
from bin.control_server import only_daemon
from bin.daemon import serve_calls
from bin.places import Places
from bin.settings import Settings
from tests.bin.fake_node import FakeNode

__all__ = ["SILENT", "ThreadedDaemon", "open_fake_daemon", "run_in_thread"]

SILENT = Settings(name="alice", microphone="null", speaker="null")


@asynccontextmanager
async def open_fake_daemon(
    home: Path, node: FakeNode, settings: Settings = SILENT
) -> AsyncIterator[Places]:
    """Serve the control socket of a fake node while the context is open."""
    places = Places.under(home)
    with only_daemon(places):
        contacts = ContactBook(places.contacts_file)
        async with serve_calls(node, settings, places, contacts):
            yield places


class ThreadedDaemon:
    """A daemon in another thread, for commands that run an event loop themselves."""

    def __init__(self, node: FakeNode) -> None:
        self.node = node
        self.stopped = trio.Event()
        self._token = trio.lowlevel.current_trio_token()

    def soon(self, act: Callable[[], object]) -> None:
        """Have something done in the daemon's thread, and wait for what follows."""
        trio.from_thread.run_sync(act, trio_token=self._token)
        trio.from_thread.run(
            trio.testing.wait_all_tasks_blocked, trio_token=self._token
        )

    def stop(self) -> None:
        """End the daemon, if it has not ended."""
        with suppress(trio.RunFinishedError):
            trio.from_thread.run_sync(self.stopped.set, trio_token=self._token)


@contextmanager
def run_in_thread(
    home: Path, node: Callable[[], FakeNode], settings: Settings = SILENT
) -> Iterator[ThreadedDaemon]:
    """Run a daemon around a fake node while the context is open."""
    daemons: list[ThreadedDaemon] = []
    begun = threading.Event()

    async def serve() -> None:
        daemon = ThreadedDaemon(node())
        async with open_fake_daemon(home, daemon.node, settings):
            daemons.append(daemon)
            begun.set()
            await daemon.stopped.wait()

    thread = threading.Thread(target=trio.run, args=(serve,))
    thread.start()
    try:
        assert begun.wait(10), "the daemon did not start"
        yield daemons[0]
    finally:
        daemons[0].stop()
        thread.join(10)
