"""The people this node knows: contacts, and names pinned on first use.

A name stands for the public key it had when it was first used or added; when the index
later says otherwise, the node refuses. A *contact* was added by the user and may learn
this machine's addresses in a call; a name that is merely *pinned* may not.

The file is JSON, private to the user, replaced as a whole under a lock, and read again
whenever it changed, so that the daemon and the command line can share it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec

from bin.errors import ProgramError
from overlay.names import format_key, parse_key

__all__ = ["Contact", "ContactBook"]

CONTACTS_MAX: Final = 10_000
# A very sociable person; bounds the file at some 2 MB.
SCHEMA: Final = 1


class Contact(msgspec.Struct, frozen=True):
    """One known name. `key` has 52 characters (`overlay.names`), `added_at` is Unix."""

    name: str
    key: str
    added_at: float
    contact: bool
    verified: bool = False

    @property
    def public_key(self) -> bytes:
        """The identity itself."""
        return parse_key(self.key)


class _File(msgspec.Struct):
    schema: int = SCHEMA
    contacts: list[Contact] = []


class ContactBook:
    """The contacts file of one node. Holds no open file; many may share one file."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._version: tuple[int, int] | None = None
        self._by_name: dict[str, Contact] = {}
        self._contact_keys: set[bytes] = set()

    def contacts(self) -> list[Contact]:
        """List everything known, by name."""
        self._reload()
        return sorted(self._by_name.values(), key=lambda each: each.name)

    def public_key_of(self, name: str) -> bytes | None:
        """Give the key that is pinned for this name."""
        self._reload()
        known = self._by_name.get(name)
        return known.public_key if known else None

    def name_of(self, public_key: bytes) -> str | None:
        """Give the name this identity is known by; a contact's before a pinned one."""
        known = [each for each in self.contacts() if each.public_key == public_key]
        known.sort(key=lambda each: not each.contact)
        return known[0].name if known else None

    def is_contact(self, public_key: bytes) -> bool:
        """Whether the user added this identity."""
        self._reload()
        return public_key in self._contact_keys

    def add(self, name: str, key: bytes, now: float, *, verified: bool) -> Contact:
        """Make a contact; one that was merely pinned becomes one.

        Raises `ProgramError` 813 if the name is known under another key.
        """
        with self._changed() as entries:
            known = self._agreeing(entries, name, key)
            verified = verified or (known is not None and known.verified)
            entries[name] = Contact(name, format_key(key), now, True, verified)
            return entries[name]

    def add_all(self, keys: Mapping[str, bytes], now: float) -> None:
        """Make contacts of many at once, in place of everything that was known."""
        with self._changed() as entries:
            entries.clear()
            for name, key in keys.items():
                entries[name] = Contact(name, format_key(key), now, True)

    def pin(self, name: str, key: bytes, now: float) -> None:
        """Remember the key a name had on first use. A known name is left as it is."""
        if self.public_key_of(name) == key:
            return
        with self._changed() as entries:
            if self._agreeing(entries, name, key) is None:
                entries[name] = Contact(name, format_key(key), now, False)

    def remove(self, name: str) -> None:
        """Forget a name and its key. Raises `ProgramError` 812 if it is unknown."""
        with self._changed() as entries:
            if entries.pop(name, None) is None:
                raise ProgramError.of("812", f"{name!r} is not in {self._file}")

    @staticmethod
    def _agreeing(entries: dict[str, Contact], name: str, key: bytes) -> Contact | None:
        known = entries.get(name)
        if known is not None and known.public_key != key:
            raise ProgramError.of(
                "813", f"{name} is known with key {known.key}, not {format_key(key)}"
            )
        if known is None and len(entries) >= CONTACTS_MAX:
            raise ProgramError.of("811", f"there are already {CONTACTS_MAX} contacts")
        return known

    @contextlib.contextmanager
    def _changed(self) -> Iterator[dict[str, Contact]]:
        """Give the entries to change, and write them unless an exception says no."""
        self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(self._file.with_suffix(".lock"), os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._reload()
            entries = dict(self._by_name)
            yield entries
            self._write(list(entries.values()))
        finally:
            os.close(lock)

    def _write(self, entries: list[Contact]) -> None:
        content = msgspec.json.format(msgspec.json.encode(_File(contacts=entries)))
        fresh = self._file.with_suffix(".new")
        file = os.open(fresh, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
        with os.fdopen(file, "wb") as stream:
            stream.write(content + b"\n")
        fresh.replace(self._file)

    def _reload(self) -> None:
        try:
            status = self._file.stat()
        except FileNotFoundError:
            version, entries = None, []
        else:
            version = (status.st_mtime_ns, status.st_ino)
            if version == self._version:
                return
            entries = self._read()
        self._version = version
        self._by_name = {each.name: each for each in entries}
        self._contact_keys = {each.public_key for each in entries if each.contact}

    def _read(self) -> list[Contact]:
        try:
            content = msgspec.json.decode(self._file.read_bytes(), type=_File)
            for each in content.contacts:
                _ = each.public_key
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise ProgramError.of("810", f"{self._file}: {error}") from None
        return content.contacts
