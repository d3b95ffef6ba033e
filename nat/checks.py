"""Connectivity checks of one call: written, verified, answered (RFC 8445 §7).

A check is a STUN binding request that only the two ends of the call can write:

    USERNAME            their fragment, colon, our fragment
    PRIORITY            that of a peer-reflexive candidate
    ICE-CONTROLLING     or -CONTROLLED, with a random tie-breaker
    USE-CANDIDATE       when the controlling end settles on this path
    MESSAGE-INTEGRITY   under their password; the answer uses the same one

So an answer proves that its path works both ways, that the call's peer sits at its end,
and that this peer still wants our datagrams (consent, RFC 7675). The roles are given
with the call (the caller controls), which leaves no conflict of roles to repair.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from nat import stun
from nat.address import Address
from nat.candidate import check_priority
from nat.errors import WireError
from nat.stun import BindingRequest, BindingResponse

__all__ = ["CHECK_BYTES_MAX", "Checks", "Credentials"]

CHECK_BYTES_MAX: Final = 160
# 20 of header, 72 of USERNAME (two fragments of 32), 8 + 12 + 4 of ICE, 24 + 8.

_FRAGMENT: Final = re.compile(r"[A-Za-z0-9+/]{4,32}")
_PASSWORD: Final = re.compile(r"[A-Za-z0-9+/]{22,256}")


@dataclass(frozen=True, slots=True)
class Credentials:
    """The ICE names and passwords of both ends of a call (RFC 8445 §5.3).

    They belong to one call; nobody but its two ends knows them. Fragments have 4 to
    32 characters of A-Z a-z 0-9 + /, passwords 22 to 256.
    """

    our_fragment: str
    our_password: str
    their_fragment: str
    their_password: str

    def __post_init__(self) -> None:
        for fragment in (self.our_fragment, self.their_fragment):
            if not _FRAGMENT.fullmatch(fragment):
                raise ValueError(f"ICE fragment {fragment!r}, expected 4..32 ice-chars")
        for password in (self.our_password, self.their_password):
            if not _PASSWORD.fullmatch(password):
                raise ValueError(
                    f"an ICE password of {len(password)} characters, "
                    "expected 22..256 ice-chars"
                )


class Checks:
    """Writes and reads the checks of one call."""

    def __init__(
        self,
        credentials: Credentials,
        *,
        controlling: bool,
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self.controlling: Final = controlling
        self._outgoing_name = f"{credentials.their_fragment}:{credentials.our_fragment}"
        self._incoming_name = f"{credentials.our_fragment}:{credentials.their_fragment}"
        self._our_key = credentials.our_password.encode()
        self._their_key = credentials.their_password.encode()
        self._random_bytes = random_bytes
        self._tie_breaker = int.from_bytes(random_bytes(8), "big")

    def request(self, *, use_candidate: bool = False) -> tuple[bytes, bytes]:
        """Write a check; give its transaction id and the datagram.

        Every one has an id of its own, also when it repeats one that was lost: so an
        answer always tells the round trip of the check it belongs to.
        """
        transaction_id = self._random_bytes(stun.TRANSACTION_BYTES)
        request = BindingRequest(
            transaction_id,
            username=self._outgoing_name,
            priority=check_priority(),
            controlling=self.controlling,
            tie_breaker=self._tie_breaker,
            use_candidate=use_candidate,
        )
        return transaction_id, stun.encode(request, self._their_key)

    def open(self, datagram: bytes) -> stun.Message:
        """Read a check or an answer that the peer wrote. Raises `WireError`."""
        message = stun.decode(datagram)
        if not isinstance(message, BindingRequest):
            stun.verify(datagram, self._their_key)
        elif message.username != self._incoming_name:
            raise WireError(f"a check for {message.username!r}")
        else:
            stun.verify(datagram, self._our_key)
        return message

    def answer(self, request: BindingRequest, source: Address) -> bytes:
        """Write the answer to a check that came from `source`; it is shorter."""
        return stun.encode(
            BindingResponse(request.transaction_id, source), self._our_key
        )
