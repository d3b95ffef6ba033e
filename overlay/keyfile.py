"""The file that holds a node's identity, readable by its owner alone.

    {
      "version": 1,
      "signing_seed": "64 hex digits",
      "dh_seed": "64 hex digits",
      "public_key": "64 hex digits",
      "dh_public": "64 hex digits"
    }

The public keys follow from the seeds; they are there so that a damaged seed is noticed,
rather than making a node somebody else. Later versions may add fields.

A file that is missing is created, whole or not at all, with mode 0600 in a directory of
mode 0700. Nothing is ever overwritten: two daemons that start at once end up with the
same identity. A file that others may read, or that lies where others may replace it, is
refused.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from overlay.identity import Identity

__all__ = ["KeyfileError", "KeyfileInvalid", "KeyfileTooOpen", "load_or_create"]

KEYFILE_BYTES_MAX: Final = 4_096
# Ten times what version 1 takes.
OTHERS_MAY_READ: Final = 0o077
OTHERS_MAY_REPLACE: Final = 0o022


class KeyfileError(Exception):
    """The identity file cannot be used; `next_step` says what to do."""

    def __init__(self, path: Path, cause: str, next_step: str) -> None:
        super().__init__(f"{path}: {cause}")
        self.path: Final = path
        self.next_step: Final = next_step


class KeyfileTooOpen(KeyfileError):
    """Others may read the identity file, or put another in its place."""

    def __init__(self, path: Path, mode: int, wanted: str, changes: str) -> None:
        cause = f"mode {mode:04o}, but {wanted}"
        super().__init__(path, cause, f"chmod {changes} '{path}'")
        self.mode: Final = mode


class KeyfileInvalid(KeyfileError):
    """The identity file holds something else, or was damaged."""

    def __init__(self, path: Path, cause: str) -> None:
        super().__init__(
            path,
            cause,
            f"Restore '{path}' from a copy, or move it away to become somebody new.",
        )


def load_or_create(
    path: Path, random_bytes: Callable[[int], bytes] = os.urandom
) -> Identity:
    """Read the identity, or make one if there is no file.

    Raises `KeyfileTooOpen`, `KeyfileInvalid`, and `OSError` if the file system refuses.
    """
    try:
        return _load(path)
    except FileNotFoundError:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(FileExistsError):  # somebody was faster: theirs it is
        _create(path, Identity.generate(random_bytes))
    return _load(path)


class _Stored(msgspec.Struct, frozen=True):
    version: int
    signing_seed: str
    dh_seed: str
    public_key: str
    dh_public: str


def _load(path: Path) -> Identity:
    _refuse_open(path)
    with path.open("rb") as file:
        content = file.read(KEYFILE_BYTES_MAX + 1)
    if len(content) > KEYFILE_BYTES_MAX:
        raise KeyfileInvalid(path, f"longer than {KEYFILE_BYTES_MAX} bytes")
    try:
        stored = msgspec.json.decode(content, type=_Stored)
        seeds = bytes.fromhex(stored.signing_seed), bytes.fromhex(stored.dh_seed)
        identity = Identity(*seeds)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        # The cause is not shown: it could quote a seed.
        raise KeyfileInvalid(path, "expected an identity as JSON") from None
    if stored != _stored(identity):
        raise KeyfileInvalid(path, "expected version 1 and keys that fit together")
    return identity


def _refuse_open(path: Path) -> None:
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        raise KeyfileInvalid(path, "expected a regular file")
    if mode & OTHERS_MAY_READ:
        raise KeyfileTooOpen(path, stat.S_IMODE(mode), "only you may read it", "600")
    directory = path.parent.stat().st_mode
    if directory & OTHERS_MAY_REPLACE and not directory & stat.S_ISVTX:
        raise KeyfileTooOpen(
            path.parent,
            stat.S_IMODE(directory),
            "others must not be able to replace the identity in it",
            "go-w",
        )


def _create(path: Path, identity: Identity) -> None:
    """Write a complete file beside `path` and link it there if nothing is there yet."""
    content = msgspec.json.format(msgspec.json.encode(_stored(identity)))
    # mkstemp opens with O_EXCL and mode 0600.
    descriptor, beside = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content + b"\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(beside, path)
    finally:
        os.unlink(beside)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _stored(identity: Identity) -> _Stored:
    signing_seed, dh_seed = identity.seeds()
    return _Stored(
        version=1,
        signing_seed=signing_seed.hex(),
        dh_seed=dh_seed.hex(),
        public_key=identity.public_key.hex(),
        dh_public=identity.dh_public.hex(),
    )
