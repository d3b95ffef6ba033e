"""What arrives and is no message of ours."""

from __future__ import annotations

__all__ = ["WireError"]


class WireError(ValueError):
    """Bytes that are no message of ours: drop them and count.

    The only exception that leaves a decoder.
    """
