"""Where Koe keeps its files: the XDG directories, or all under one `--home`.

    what               default                            with --home DIR
    settings, contacts ~/.config/koe                      DIR
    identity           ~/.local/share/koe                 DIR
    crash log, mesh    ~/.local/state/koe                 DIR
    control socket     $XDG_RUNTIME_DIR/koe               DIR/run

All directories are made with mode 0700.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["Places", "is_ours"]

SOCKET_PATH_BYTES_MAX: Final = 103
# sockaddr_un holds 104 bytes on macOS, 108 on Linux, with the closing zero.


@dataclass(frozen=True, slots=True)
class Places:
    """The directories of one node. Nothing is created before `make`."""

    config: Path
    data: Path
    state: Path
    runtime: Path

    @classmethod
    def under(cls, home: Path) -> Places:
        """Keep everything under one directory."""
        home = home.expanduser().absolute()
        return cls(home, home, home, _short_enough(home / "run"))

    @classmethod
    def of(cls, environment: Mapping[str, str], home: Path | None = None) -> Places:
        """Read `KOE_HOME` and the XDG variables; `home` goes before all of them."""
        if home is not None or environment.get("KOE_HOME"):
            return cls.under(home or Path(environment["KOE_HOME"]))
        user = Path(environment.get("HOME") or "~").expanduser()
        state = _xdg(environment, "XDG_STATE_HOME", user / ".local/state")
        runtime = _xdg(environment, "XDG_RUNTIME_DIR", state)
        return cls(
            config=_xdg(environment, "XDG_CONFIG_HOME", user / ".config") / "koe",
            data=_xdg(environment, "XDG_DATA_HOME", user / ".local/share") / "koe",
            state=state / "koe",
            runtime=_short_enough(runtime / "koe"),
        )

    @property
    def settings_file(self) -> Path:
        """The optional settings, TOML."""
        return self.config / "settings.toml"

    @property
    def contacts_file(self) -> Path:
        """The contacts and pinned names."""
        return self.config / "contacts.json"

    @property
    def identity_file(self) -> Path:
        """The secret key of this node."""
        return self.data / "identity"

    @property
    def crash_log(self) -> Path:
        """The details of unexpected failures."""
        return self.state / "crash.log"

    @property
    def control_socket(self) -> Path:
        """The Unix socket of the daemon."""
        return self.runtime / "control.sock"

    @property
    def process_file(self) -> Path:
        """The lock that the daemon holds, with its process id."""
        return self.runtime / "daemon.lock"

    @property
    def mesh(self) -> Path:
        """The homes and the state of the local mesh."""
        return self.state / "mesh"

    def make(self) -> None:
        """Create the directories that are not there yet, private to the user."""
        for place in (self.config, self.data, self.state, self.runtime):
            place.mkdir(mode=0o700, parents=True, exist_ok=True)


def _xdg(environment: Mapping[str, str], name: str, default: Path) -> Path:
    given = Path(environment.get(name, ""))
    # The XDG specification: a relative path is to be ignored.
    return given if given.is_absolute() else default


def _short_enough(runtime: Path) -> Path:
    """Move a directory whose socket's path no kernel would take."""
    longest = runtime / "control.sock"
    if len(os.fsencode(longest)) <= SOCKET_PATH_BYTES_MAX:
        return runtime
    digest = hashlib.blake2s(os.fsencode(runtime), digest_size=8).hexdigest()
    return Path(tempfile.gettempdir()) / f"koe-{os.getuid()}-{digest}"


def is_ours(directory: Path) -> bool:
    """Whether this is, or is yet to become, a directory of our own, and no link.

    In one that somebody else made, somebody else could listen.
    """
    try:
        found = directory.lstat()
    except FileNotFoundError:
        return True
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
