"""What a user may choose about a node, and where the choices come from.

Later ones win: the defaults below, the settings file (TOML, optional), the options of
`koe daemon`. The file has the names of the options without the dashes:

    name = "alice"
    bind = "0.0.0.0:7000"
    seed = ["192.0.2.1:7000"]
    supernode = "auto"          # auto, on, off
    network = "koe"
    answer = "ask"              # ask, contacts, auto
    microphone = "default"      # default, sound:NAME, file:PATH, tone:HZ, null
    speaker = "default"
    record = "/home/alice/last-call.wav"
"""

from __future__ import annotations

import enum
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from bin.errors import ProgramError
from nat.address import Address

__all__ = ["Answering", "Settings", "Supernode", "load_settings"]

PORT: Final = 7000


class Supernode(enum.StrEnum):
    """Whether this node may become a supernode."""

    AUTO = "auto"
    ON = "on"
    OFF = "off"


class Answering(enum.StrEnum):
    """What happens when someone calls."""

    ASK = "ask"  # it rings, and `koe answer` answers
    CONTACTS = "contacts"  # contacts are answered at once, others ring
    AUTO = "auto"  # everyone is answered at once


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The choices for one node."""

    name: str | None = None
    bind: str = f"0.0.0.0:{PORT}"
    seed: tuple[str, ...] = ()
    supernode: Supernode = Supernode.AUTO
    network: str = "koe"
    answer: Answering = Answering.ASK
    microphone: str = "default"
    speaker: str = "default"
    record: str | None = None

    @property
    def bind_address(self) -> Address:
        """The local address of the node's socket."""
        return _address(self.bind, "bind")

    @property
    def seed_addresses(self) -> tuple[Address, ...]:
        """Where to find the network on the first start."""
        return tuple(_address(text, "seed") for text in self.seed)


def load_settings(file: Path, options: Mapping[str, object]) -> Settings:
    """Merge defaults, file and options; options that are None were not given.

    Raises `ProgramError` 805 with the value and what was expected.
    """
    chosen = {name: value for name, value in options.items() if value is not None}
    try:
        settings = msgspec.convert(_read(file) | chosen, Settings)
    except msgspec.ValidationError as error:
        raise ProgramError.of("805", f"{error} (options or {file})") from None
    _ = settings.bind_address, settings.seed_addresses
    return settings


def _read(file: Path) -> dict[str, object]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ProgramError.of("805", f"{file}: {error}") from None


def _address(text: str, what: str) -> Address:
    try:
        return Address.parse(text, PORT)
    except ValueError as error:
        raise ProgramError.of("805", f"{what} {error}") from None
