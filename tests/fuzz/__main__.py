"""The command line of the fuzz run, see `tests.fuzz`."""

from __future__ import annotations

import argparse
import sys

from tests.fuzz.run import TARGETS, Fell, fuzz, run_round


def main() -> int:
    """Fuzz as asked; 0 if nothing fell."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--target", choices=sorted(TARGETS), action="append")
    parser.add_argument("--round", type=int, help="run only this round of one target")
    asked = parser.parse_args()
    targets = tuple(asked.target or TARGETS)
    try:
        if asked.round is not None:
            for target in targets:
                run_round(target, asked.seed, asked.round, 5_000)
            return 0
        total = 0
        for done in fuzz(asked.inputs, asked.seed, targets):
            total += done.inputs
            rate = done.inputs / max(done.seconds, 1e-9)
            sys.stdout.write(
                f"{done.target:16} {done.inputs:>9,} inputs {done.refused:>9,} refused"
                f" {rate:>9,.0f}/s\n"
            )
            sys.stdout.flush()
        sys.stdout.write(f"{total:,} inputs with seed {asked.seed}: nothing fell\n")
    except Fell as fell:
        sys.stderr.write(f"{fell}\n")
        if asked.round is not None:
            raise
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
