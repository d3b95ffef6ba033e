"""Where files are: XDG, one home, and paths that fit into a socket's name."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from bin.places import SOCKET_PATH_BYTES_MAX, Places, is_ours


def test_without_anything_set_the_directories_are_those_of_xdg() -> None:
    places = Places.of({"HOME": "/home/alice"})
    assert places.settings_file == Path("/home/alice/.config/koe/settings.toml")
    assert places.identity_file == Path("/home/alice/.local/share/koe/identity")
    assert places.control_socket == Path("/home/alice/.local/state/koe/control.sock")


def test_xdg_variables_are_heeded_if_they_are_absolute() -> None:
    places = Places.of(
        {
            "HOME": "/home/alice",
            "XDG_RUNTIME_DIR": "/run/user/1000",
            "XDG_CONFIG_HOME": "relative",
        }
    )
    assert places.control_socket == Path("/run/user/1000/koe/control.sock")
    assert places.contacts_file == Path("/home/alice/.config/koe/contacts.json")


def test_one_home_holds_everything_and_the_option_goes_before_the_variable() -> None:
    assert Places.of({"KOE_HOME": "/a"}).identity_file == Path("/a/identity")
    assert Places.of({"KOE_HOME": "/a"}, Path("/b")).state == Path("/b")


def test_a_socket_in_a_deep_directory_is_moved_where_the_kernel_takes_it() -> None:
    deep = Places.under(Path("/") / "/".join(["directory"] * 20))
    assert len(os.fsencode(deep.control_socket)) <= SOCKET_PATH_BYTES_MAX
    again = Places.under(Path("/") / "/".join(["directory"] * 20))
    other = Places.under(Path("/") / "/".join(["directory"] * 21))
    assert deep.control_socket == again.control_socket != other.control_socket


def test_directories_are_made_for_their_user_alone(tmp_path: Path) -> None:
    places = Places.under(tmp_path / "home")
    places.make()
    places.make()
    assert stat.S_IMODE(places.state.stat().st_mode) == 0o700
    assert stat.S_IMODE(places.runtime.stat().st_mode) == 0o700


def test_a_link_or_a_file_is_no_directory_of_ours(tmp_path: Path) -> None:
    ours = tmp_path / "run"
    assert is_ours(ours)
    ours.mkdir()
    assert is_ours(ours)
    (tmp_path / "link").symlink_to(ours)
    (tmp_path / "file").touch()
    assert not is_ours(tmp_path / "link")
    assert not is_ours(tmp_path / "file")
