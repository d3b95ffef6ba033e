"""The identity file: made once, private, never overwritten, refused when doubtful."""

from __future__ import annotations

import json
import os
import stat
import threading
from pathlib import Path

import pytest

from overlay.identity import Identity
from overlay.keyfile import KeyfileInvalid, KeyfileTooOpen, load_or_create


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "koe" / "identity.json"


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_missing_file_is_created_and_read_back(path: Path) -> None:
    created = load_or_create(path)
    assert load_or_create(path).seeds() == created.seeds()


def test_file_and_directory_are_their_owners_alone(path: Path) -> None:
    umask = os.umask(0)
    try:
        load_or_create(path)
    finally:
        os.umask(umask)
    assert mode_of(path) == 0o600
    assert mode_of(path.parent) == 0o700


def test_nothing_else_is_left_in_the_directory(path: Path) -> None:
    load_or_create(path)
    assert list(path.parent.iterdir()) == [path]


def test_the_randomness_is_what_was_handed_in(path: Path) -> None:
    identity = load_or_create(path, lambda length: b"\x05" * length)
    assert identity.seeds() == (b"\x05" * 32, b"\x05" * 32)


def test_the_file_is_the_documented_json(path: Path) -> None:
    identity = load_or_create(path)
    signing_seed, dh_seed = identity.seeds()
    assert json.loads(path.read_text()) == {
        "version": 1,
        "signing_seed": signing_seed.hex(),
        "dh_seed": dh_seed.hex(),
        "public_key": identity.public_key.hex(),
        "dh_public": identity.dh_public.hex(),
    }


@pytest.mark.parametrize("mode", [0o601, 0o604, 0o610, 0o620, 0o640, 0o644, 0o777])
def test_a_file_others_may_use_is_refused_with_the_way_out(
    path: Path, mode: int
) -> None:
    load_or_create(path)
    path.chmod(mode)
    with pytest.raises(KeyfileTooOpen, match=f"{mode:04o}") as refusal:
        load_or_create(path)
    assert (refusal.value.path, refusal.value.mode) == (path, mode)
    assert refusal.value.next_step == f"chmod 600 '{path}'"


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o700])
def test_a_file_only_its_owner_may_use_is_accepted(path: Path, mode: int) -> None:
    load_or_create(path)
    path.chmod(mode)
    load_or_create(path)


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777])
def test_a_directory_others_may_write_to_is_refused(path: Path, mode: int) -> None:
    load_or_create(path)
    path.parent.chmod(mode)
    with pytest.raises(KeyfileTooOpen, match=f"{mode:04o}") as refusal:
        load_or_create(path)
    assert refusal.value.next_step == f"chmod go-w '{path.parent}'"


@pytest.mark.parametrize("mode", [0o755, 0o1777], ids=["readable", "sticky"])
def test_a_directory_others_cannot_replace_files_in_is_accepted(
    path: Path, mode: int
) -> None:
    load_or_create(path)
    path.parent.chmod(mode)
    load_or_create(path)


def write_private(path: Path, content: bytes) -> None:
    path.parent.mkdir(mode=0o700)
    path.write_bytes(content)
    path.chmod(0o600)


def keys_as_json(key: str) -> bytes:
    names = ("signing_seed", "dh_seed", "public_key", "dh_public")
    return json.dumps({"version": 1} | dict.fromkeys(names, key)).encode()


GARBAGE = {
    "empty": b"",
    "no json": b"secret",
    "no utf-8": b'{"version": "\xff"}',
    "another json": b"[1, 2, 3]",
    "nested": b"[" * 4_000,
    "no hex": keys_as_json("zz"),
    "short": keys_as_json("00"),
    "too long": b" " * 5_000,
}


@pytest.mark.parametrize("content", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_is_refused_and_left_as_it_is(path: Path, content: bytes) -> None:
    write_private(path, content)
    with pytest.raises(KeyfileInvalid) as refusal:
        load_or_create(path)
    assert str(path) in str(refusal.value)
    assert str(path) in refusal.value.next_step
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "field", ["signing_seed", "dh_seed", "public_key", "dh_public"]
)
def test_a_damaged_key_is_noticed(path: Path, field: str) -> None:
    load_or_create(path)
    stored = json.loads(path.read_text())
    stored[field] = Identity(b"\x01" * 32, b"\x02" * 32).public_key.hex()
    path.write_text(json.dumps(stored))
    with pytest.raises(KeyfileInvalid, match="fit together"):
        load_or_create(path)


def test_another_version_is_refused(path: Path) -> None:
    load_or_create(path)
    path.write_text(path.read_text().replace('"version": 1', '"version": 2'))
    with pytest.raises(KeyfileInvalid, match="expected version 1"):
        load_or_create(path)


def test_a_field_of_a_later_version_is_tolerated(path: Path) -> None:
    created = load_or_create(path)
    stored = json.loads(path.read_text())
    path.write_text(json.dumps(stored | {"comment": "from the future"}))
    assert load_or_create(path).seeds() == created.seeds()


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["directory", "fifo"])
def test_what_is_no_regular_file_is_refused(tmp_path: Path, make: object) -> None:
    assert callable(make)
    path = tmp_path / "identity.json"
    make(path)
    with pytest.raises(KeyfileInvalid, match="regular file"):
        load_or_create(path)


def test_no_message_quotes_a_seed(path: Path) -> None:
    load_or_create(path)
    stored = json.loads(path.read_text())
    path.write_text(json.dumps(stored | {"dh_public": 5}))
    with pytest.raises(KeyfileInvalid) as refusal:
        load_or_create(path)
    for secret in (stored["signing_seed"], stored["dh_seed"]):
        assert secret not in str(refusal.value) + refusal.value.next_step


def test_all_who_start_at_once_get_the_same_identity(path: Path) -> None:
    together = threading.Barrier(8)
    found: list[bytes] = []

    def start() -> None:
        together.wait()
        found.append(load_or_create(path).public_key)

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1
    assert list(path.parent.iterdir()) == [path]


def test_a_file_made_by_somebody_faster_is_not_overwritten(path: Path) -> None:
    def faster(length: int) -> bytes:
        if not path.exists():
            load_or_create(path, lambda length: b"\x07" * length)
        return bytes(length)

    assert load_or_create(path, faster).seeds() == (b"\x07" * 32, b"\x07" * 32)
