"""Checks: only the two ends of a call can write them."""

from __future__ import annotations

import random

import pytest

from nat.address import Address
from nat.checks import CHECK_BYTES_MAX, Checks, Credentials
from nat.errors import WireError
from nat.stun import BindingRequest, BindingResponse, encode
from tests.nat.lab import CALLEE, CALLER

RANDBYTES = random.Random(1).randbytes
SOURCE = Address("2001:db8::1", 5_000)


def ends() -> tuple[Checks, Checks]:
    return (
        Checks(CALLER, controlling=True, random_bytes=RANDBYTES),
        Checks(CALLEE, controlling=False, random_bytes=RANDBYTES),
    )


def test_the_other_end_reads_a_check_and_we_read_its_answer() -> None:
    caller, callee = ends()
    transaction_id, check = caller.request(use_candidate=True)
    request = callee.open(check)
    assert isinstance(request, BindingRequest)
    assert (request.username, request.controlling) == ("peer:call", True)
    assert request.use_candidate
    answer = callee.answer(request, SOURCE)
    assert caller.open(answer) == BindingResponse(transaction_id, SOURCE)


def test_an_answer_is_always_shorter_than_its_check() -> None:
    caller, callee = ends()
    _, check = caller.request()
    request = callee.open(check)
    assert isinstance(request, BindingRequest)
    assert len(callee.answer(request, SOURCE)) < len(check)


def test_a_check_thrown_back_at_us_is_not_taken_for_the_peers() -> None:
    caller, _ = ends()
    with pytest.raises(WireError):
        caller.open(caller.request()[1])


def test_an_answer_under_another_password_is_refused() -> None:
    caller, _ = ends()
    transaction_id, _ = caller.request()
    forged = encode(BindingResponse(transaction_id, SOURCE), b"x" * 22)
    with pytest.raises(WireError):
        caller.open(forged)


def test_a_check_of_another_call_is_refused() -> None:
    _, callee = ends()
    other = Credentials("call", "c" * 22, "pear", "p" * 22)
    writer = Checks(other, controlling=True, random_bytes=RANDBYTES)
    with pytest.raises(WireError):
        callee.open(writer.request()[1])


def test_the_longest_check_stays_within_its_limit() -> None:
    longest = Credentials("a" * 32, "b" * 256, "c" * 32, "d" * 256)
    writer = Checks(longest, controlling=True, random_bytes=RANDBYTES)
    assert len(writer.request(use_candidate=True)[1]) <= CHECK_BYTES_MAX


@pytest.mark.parametrize(
    ("fragment", "password"),
    [
        ("abc", "x" * 22),
        ("a" * 33, "x" * 22),
        ("a:cd", "x" * 22),
        ("abcd", "x" * 21),
        ("abcd", "x" * 257),
        ("abcd", "x" * 21 + " "),
    ],
)
def test_credentials_of_another_form_are_a_callers_error(
    fragment: str, password: str
) -> None:
    with pytest.raises(ValueError, match="expected"):
        Credentials(fragment, password, "peer", "p" * 22)
    with pytest.raises(ValueError, match="expected"):
        Credentials("call", "c" * 22, fragment, password)
