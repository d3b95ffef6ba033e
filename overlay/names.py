"""How people write down a peer.

    alice                          a name: the index says who claims it
    alice-k7m3-q9xt-2b5z           a name and the short id of the one who is meant
    k7m3-q9xt-2b5z                 a short id alone
    0123...                        a whole public key: 52 characters
    koe:alice?k=0123...&s=192.0.2.1:7000,[2001:db8::1]:7000
                                   a link: name (may be empty), key, supernodes to ask

A name is 3 to 32 of `a-z 0-9 . _ -`, beginning with a letter or digit. It never ends
like a short id (three groups of four joined by hyphens), so that what is typed can be
read in one way only, and a mistyped id is not taken for a name.

A key's 52 characters are base 32 in the alphabet of short ids (`overlay.identity`),
most significant bits first, and 4 zero bits at the end. Capitals are taken for small
letters everywhere.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import Final

from nat.address import Address
from overlay.identity import ALPHABET, ShortId, parse_short_id, short_id

__all__ = [
    "NAME_PATTERN",
    "PeerName",
    "check_name",
    "format_key",
    "parse_key",
    "parse_peer_name",
]

NAME_PATTERN: Final = r"[a-z0-9][a-z0-9._-]{2,31}"
SEEDS_MAX: Final = 8
# A link carries two; more than eight make it unfit to be read out or printed.

_NAME: Final = re.compile(NAME_PATTERN)
_ENDS_IN_ID: Final = re.compile(r"(?:^|-)([0-9a-z]{4}(?:-[0-9a-z]{4}){2})$")
_KEY_CHARACTERS: Final = 52
_SCHEME: Final = "koe:"
_RFC_4648: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_TO_OURS: Final = str.maketrans(_RFC_4648, ALPHABET)
_FROM_OURS: Final = str.maketrans(ALPHABET, _RFC_4648)


@dataclass(frozen=True, slots=True)
class PeerName:
    """A peer as somebody wrote it: at least one of the first three is known.

    `short_id` is always there when `public_key` is. `seeds` come from a link.
    """

    name: str | None = None
    short_id: ShortId | None = None
    public_key: bytes | None = None
    seeds: tuple[Address, ...] = ()

    @classmethod
    def of_key(
        cls, public_key: bytes, name: str | None = None, seeds: tuple[Address, ...] = ()
    ) -> PeerName:
        """Name the one who has this public key."""
        return cls(name, short_id(public_key), public_key, seeds)

    def admits(self, public_key: bytes) -> bool:
        """Whether the identity with this key may be the one that was meant."""
        if self.public_key is not None:
            return self.public_key == public_key
        return self.short_id is None or self.short_id == short_id(public_key)

    def link(self) -> str:
        """Give the `koe:` link; `ValueError` if the key is not known."""
        if self.public_key is None:
            raise ValueError(f"{self}: expected a public key to make a link of")
        text = f"{_SCHEME}{self.name or ''}?k={format_key(self.public_key)}"
        if self.seeds:
            text += "&s=" + ",".join(str(seed) for seed in self.seeds)
        return text

    def __str__(self) -> str:
        return "-".join(part for part in (self.name, self.short_id) if part)


def parse_peer_name(text: str) -> PeerName:
    """Read what somebody typed. Raises `ValueError` that says what was expected."""
    plain = text.strip().lower()
    if plain.startswith(_SCHEME):
        return _parse_link(plain.removeprefix(_SCHEME))
    if len(plain) == _KEY_CHARACTERS:
        return PeerName.of_key(parse_key(plain))
    ends_in_id = _ENDS_IN_ID.search(plain)
    if ends_in_id is None:
        return PeerName(check_name(plain))
    identifier = parse_short_id(ends_in_id[1])
    name = plain[: ends_in_id.start()]
    return PeerName(check_name(name) if name else None, identifier)


def check_name(text: str) -> str:
    """Give the text back if it is a name, else raise `ValueError` with the reason."""
    if _NAME.fullmatch(text) is None:
        raise ValueError(
            f"{text!r}: expected a name of 3 to 32 characters a-z 0-9 . _ - "
            "that begins with a letter or digit"
        )
    if _ENDS_IN_ID.search(text) is not None:
        raise ValueError(f"{text!r}: expected a name that does not end like an id")
    return text


def format_key(public_key: bytes) -> str:
    """Give the 52 characters of a public key."""
    return base64.b32encode(public_key).decode().rstrip("=").translate(_TO_OURS)


def parse_key(text: str) -> bytes:
    """Read the 52 characters of a public key. Raises `ValueError`."""
    plain = text.strip().lower()
    if len(plain) != _KEY_CHARACTERS or not set(plain) <= set(ALPHABET):
        raise ValueError(f"{text!r}: expected a key of 52 characters {ALPHABET}")
    public_key = base64.b32decode(plain.translate(_FROM_OURS) + "====")
    if format_key(public_key) != plain:
        raise ValueError(f"{text!r} is mistyped: no key ends like that")
    return public_key


def _parse_link(text: str) -> PeerName:
    name, _, query = text.partition("?")
    fields = dict(field.split("=", 1) for field in query.split("&") if "=" in field)
    if "k" not in fields:
        raise ValueError(f"{_SCHEME}{text}: expected a key, as in koe:alice?k=...")
    hosts = [host for host in fields.get("s", "").split(",") if host]
    if len(hosts) > SEEDS_MAX:
        raise ValueError(f"a link with {len(hosts)} supernodes, expected 8 at most")
    seeds = tuple(Address.parse(host) for host in hosts)
    return PeerName.of_key(
        parse_key(fields["k"]), check_name(name) if name else None, seeds
    )
