"""`python -m bin` is `koe`."""

from __future__ import annotations

from bin.cli import main

main()
