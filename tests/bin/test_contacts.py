"""Contacts and pinned names: what is believed, what is refused, who sees changes."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from bin.contacts import ContactBook
from bin.errors import ProgramError
from tests.bin.fake_node import NOW, identity_of

BOB = identity_of("bob").public_key
MALLORY = identity_of("mallory").public_key


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "contacts.json"


def test_a_contact_is_known_by_name_and_by_key(file: Path) -> None:
    book = ContactBook(file)
    book.add("bob", BOB, NOW, verified=False)
    assert book.public_key_of("bob") == BOB
    assert book.is_contact(BOB)
    assert not book.is_contact(MALLORY)


def test_a_pinned_name_is_known_but_no_contact(file: Path) -> None:
    book = ContactBook(file)
    book.pin("bob", BOB, NOW)
    assert book.public_key_of("bob") == BOB
    assert not book.is_contact(BOB)


def test_a_name_is_pinned_once_and_for_all(file: Path) -> None:
    book = ContactBook(file)
    book.pin("bob", BOB, NOW)
    book.pin("bob", BOB, NOW + 1)
    assert book.contacts()[0].added_at == NOW
    for take in (
        lambda: book.pin("bob", MALLORY, NOW),
        lambda: book.add("bob", MALLORY, NOW, verified=True),
    ):
        with pytest.raises(ProgramError) as caught:
            take()
        assert caught.value.problem.code == "813"
    assert book.public_key_of("bob") == BOB


def test_pinning_does_not_make_less_of_a_contact(file: Path) -> None:
    book = ContactBook(file)
    book.add("bob", BOB, NOW, verified=True)
    book.pin("bob", BOB, NOW)
    book.add("bob", BOB, NOW, verified=False)
    assert book.contacts()[0].contact
    assert book.contacts()[0].verified


def test_a_forgotten_name_may_be_someone_else(file: Path) -> None:
    book = ContactBook(file)
    book.add("bob", BOB, NOW, verified=False)
    book.remove("bob")
    assert not book.is_contact(BOB)
    book.add("bob", MALLORY, NOW, verified=False)
    with pytest.raises(ProgramError) as caught:
        book.remove("carol")
    assert caught.value.problem.code == "812"


def test_two_programs_share_one_file(file: Path) -> None:
    ours, theirs = ContactBook(file), ContactBook(file)
    assert ours.contacts() == theirs.contacts() == []
    ours.add("bob", BOB, NOW, verified=False)
    assert theirs.is_contact(BOB)
    theirs.pin("mallory", MALLORY, NOW)
    assert [each.name for each in ours.contacts()] == ["bob", "mallory"]
    file.unlink()
    assert not ours.is_contact(BOB)


def test_the_file_is_for_its_user_alone(file: Path) -> None:
    ContactBook(file).pin("bob", BOB, NOW)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"\xff", b'{"contacts":[{"name":"bob","key":"short","added_at":0}]}'],
)
def test_a_damaged_file_is_refused_and_left_as_it_is(
    file: Path, content: bytes
) -> None:
    file.write_bytes(content)
    for use in (
        lambda: ContactBook(file).contacts(),
        lambda: ContactBook(file).pin("bob", BOB, NOW),
    ):
        with pytest.raises(ProgramError) as caught:
            use()
        assert caught.value.problem.code == "810"
    assert file.read_bytes() == content
