"""Settings: defaults, file, options, in this order; and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from bin.errors import ProgramError
from bin.settings import Answering, Settings, Supernode, load_settings
from nat.address import Address


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "settings.toml"


def test_without_a_file_and_options_there_are_defaults(file: Path) -> None:
    settings = load_settings(file, {"name": None})
    assert settings == Settings()
    assert settings.bind_address == Address("0.0.0.0", 7000)


def test_the_file_goes_before_the_defaults_and_options_before_the_file(
    file: Path,
) -> None:
    file.write_text(
        'name = "alice"\nsupernode = "off"\nanswer = "contacts"\n'
        'seed = ["192.0.2.1:7001", "[2001:db8::1]:7002"]\n'
    )
    settings = load_settings(file, {"supernode": "on", "name": None})
    assert settings.name == "alice"
    assert settings.supernode is Supernode.ON
    assert settings.answer is Answering.CONTACTS
    assert settings.seed_addresses == (
        Address("192.0.2.1", 7001),
        Address("2001:db8::1", 7002),
    )


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("name = ", "settings.toml"),
        ("colour = 'red'", "colour"),
        ("supernode = 'maybe'", "maybe"),
        ("bind = 7000", "bind"),
        ("bind = 'somewhere:7000'", "somewhere"),
        ("bind = '0.0.0.0:70000'", "70000"),
        ("seed = ['example.org:7000']", "example.org"),
    ],
)
def test_a_bad_value_is_named_with_the_place_it_stands_in(
    file: Path, content: str, named: str
) -> None:
    file.write_text(content)
    with pytest.raises(ProgramError) as caught:
        load_settings(file, {})
    assert caught.value.problem.code == "805"
    assert named in caught.value.problem.cause
