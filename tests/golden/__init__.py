"""Frozen bytes of the protocol, shared with `docs/protocol.md`.

Each file holds lines `name = hex`; `#` begins a comment. To change a line is to change
the protocol.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["read_golden"]


def read_golden(file_name: str) -> dict[str, bytes]:
    """Give the frozen bytes of one file by their names."""
    golden = {}
    for line in Path(__file__).with_name(file_name).read_text().splitlines():
        entry = line.partition("#")[0].strip()
        if entry:
            name, _, digits = entry.partition("=")
            golden[name.strip()] = bytes.fromhex(digits)
    return golden
