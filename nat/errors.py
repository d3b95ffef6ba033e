"""The two ways in which what arrives can be wrong."""

from __future__ import annotations

__all__ = ["ProtocolError", "WireError"]


class WireError(ValueError):
    """Bytes that are no message of ours: drop them and count.

    The only exception that leaves a decoder.
    """


class ProtocolError(Exception):
    """An authenticated peer broke the rules: close with this reason."""
