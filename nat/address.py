"""Where a datagram goes to or comes from: an IP address and a port.

`Address` is a tuple, so that it can be handed to a socket as it is and compared with
what a socket reports. On the wire it takes 6 bytes (IPv4) or 18 (IPv6):

    offset 0      the IP address, 4 or 16 bytes, network byte order
    offset 4/16   the port, 2 bytes, network byte order

The length tells the family. Nothing may be appended.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import Final, NamedTuple

from nat.errors import WireError

__all__ = ["Address"]

PREFIXES_CACHED_MAX: Final = 16_384
# Twice the supernodes of the largest ring planned for; parsing costs 3 us.


class Address(NamedTuple):
    """An IP address in canonical text form, and a port in 0..65535."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str, default_port: int | None = None) -> Address:
        """Read `192.0.2.1:7000`, `[2001:db8::1]:7000`, or without port if defaulted.

        Raises `ValueError` with the text and what was expected. Names of hosts are not
        resolved here.
        """
        host, port = _split(text, default_port)
        try:
            ip = ipaddress.ip_address(host)
        except ValueError:
            raise ValueError(f"{text!r}: expected an IP address and a port") from None
        return cls(str(ip), port)

    @classmethod
    def unpack(cls, packed: bytes) -> Address:
        """Read the wire form. Raises `WireError`."""
        if len(packed) not in (6, 18):
            raise WireError(f"an address of {len(packed)} bytes, expected 6 or 18")
        host = str(ipaddress.ip_address(packed[:-2]))
        return cls(host, int.from_bytes(packed[-2:], "big"))

    def pack(self) -> bytes:
        """Give the wire form: 6 bytes for IPv4, 18 for IPv6."""
        ip = ipaddress.ip_address(self.host)
        return ip.packed + self.port.to_bytes(2, "big")

    @property
    def is_ipv6(self) -> bool:
        """Whether the host is an IPv6 address."""
        return ":" in self.host

    def prefix(self, ipv4_bits: int, ipv6_bits: int) -> bytes:
        """Give the leading bits of the IP address: /24 and /48 for the ring."""
        return _prefix(self.host, ipv4_bits, ipv6_bits)

    def __str__(self) -> str:
        return (
            f"[{self.host}]:{self.port}" if self.is_ipv6 else f"{self.host}:{self.port}"
        )


def _split(text: str, default_port: int | None) -> tuple[str, int]:
    host, colon, digits = text.rpartition(":")
    bare = not colon or text.endswith("]") or (":" in host and not host.endswith("]"))
    if bare:
        if default_port is None:
            raise ValueError(f"{text!r}: expected HOST:PORT, the port is missing")
        return text.strip("[]"), default_port
    if not digits.isascii() or not digits.isdigit() or int(digits) > 65_535:
        raise ValueError(f"{text!r}: expected a port in 0..65535, not {digits!r}")
    return host.strip("[]"), int(digits)


@lru_cache(maxsize=PREFIXES_CACHED_MAX)
def _prefix(host: str, ipv4_bits: int, ipv6_bits: int) -> bytes:
    bits = ipv6_bits if ":" in host else ipv4_bits
    network = ipaddress.ip_network((host, bits), strict=False)
    return network.network_address.packed[: (bits + 7) // 8]
