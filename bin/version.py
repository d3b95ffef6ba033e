"""Which version of Koe this is."""

from __future__ import annotations

from typing import Final

__all__ = ["VERSION"]

VERSION: Final = "0.1.0"
# The same as in setup.cfg, which a test compares: reading the metadata takes 30 ms.
