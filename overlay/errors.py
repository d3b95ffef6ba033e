"""What can go wrong for a user of the overlay, as exceptions with stable codes.

The hundreds tell the part: 2xx network, 4xx relay, 5xx index, 6xx peer. A code is never
reused. Each class carries the title and the next step that a program shows beside the
cause, which is the exception's own text.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "CallFailed",
    "IdentityChanged",
    "IndexUnreachable",
    "InvalidPeerName",
    "NameContested",
    "NoSuchCall",
    "NoSupernode",
    "NoWayToPeer",
    "NotOnline",
    "OverlayError",
    "PeerNotFound",
    "TooManyCalls",
]


class OverlayError(Exception):
    """Something a user asked for could not be done."""

    code: ClassVar[str] = "500"
    title: ClassVar[str] = "The network could not do this"
    next_step: ClassVar[str] = (
        "Try again; `koe status` shows how this node is connected."
    )


class NoSupernode(OverlayError):
    """No supernode answers, so nothing can be looked up and nobody can be called."""

    code = "202"
    title = "No supernode can be reached"
    next_step = (
        "Check the network, and that --seed names a running supernode; "
        "`koe status` shows what was tried."
    )


class InvalidPeerName(OverlayError):
    """What was typed is no name, id or link of a peer."""

    code = "501"
    title = "Not a peer's name"
    next_step = "Use a name (alice), an id (alice-k7m3-q9xt-2b5z) or a koe: link."


class PeerNotFound(OverlayError):
    """Nobody is registered under this name or id."""

    code = "502"
    title = "Nobody by that name"
    next_step = "Check the spelling; ask your peer for `koe whoami`."


class NameContested(OverlayError):
    """Several identities claim this name."""

    code = "503"
    title = "Several people claim that name"
    next_step = "Call one of them by the full id shown, after checking it with them."


class IdentityChanged(OverlayError):
    """The name now belongs to another identity than the one known before."""

    code = "504"
    title = "This is not the identity you know"
    next_step = (
        "Do not trust it. Ask your peer for their id over another channel; if it is "
        "really new, remove the contact and add the new id."
    )


class IndexUnreachable(OverlayError):
    """Too few owners of the key answered to say anything."""

    code = "505"
    title = "The index did not answer"
    next_step = "Try again in some seconds; `koe supernodes` shows who is alive."


class NotOnline(OverlayError):
    """The peer is known, but none of its homes has it now."""

    code = "601"
    title = "Not online"
    next_step = "Try again later, or ask your peer to start `koe daemon`."


class NoWayToPeer(OverlayError):
    """None of the peer's homes could be reached."""

    code = "602"
    title = "No way to that peer"
    next_step = (
        "Try again in some seconds: a peer finds new homes within half a minute."
    )


class CallFailed(OverlayError):
    """A call ended before it was meant to."""

    code = "603"
    title = "The call ended"
    next_step = "Call again."


class NoSuchCall(OverlayError):
    """There is no call with this number now."""

    code = "609"
    title = "No such call"
    next_step = "`koe calls` lists the calls."


class TooManyCalls(OverlayError):
    """This node carries as many calls as it may."""

    code = "610"
    title = "Too many calls"
    next_step = "Hang up one of them: `koe calls`, `koe hangup ID`."
