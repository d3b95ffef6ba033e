"""`@simulate`: one seed is one run, and a failing seed says how to replay it."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest
import trio
import trio._core._run as trio_run
import trio.lowlevel

from tests.vnet import Internet, LinkQuality, Sighting, clock, simulate
from tests.vnet.simulate import SEED_VARIABLE, run_deterministically


@pytest.fixture(autouse=True)
def _no_seed_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SEED_VARIABLE, raising=False)


@pytest.fixture(params=["one", "two"])
def word(request: pytest.FixtureRequest) -> str:
    assert isinstance(request.param, str)
    return request.param


@pytest.mark.parametrize("number", [1, 2])
@simulate(seeds=range(2))
async def test_fixtures_and_parameters_reach_a_simulated_test(
    internet: Internet, word: str, number: int
) -> None:
    await trio.sleep(number)
    assert trio.current_time() == number
    assert word in ("one", "two")
    assert internet.run.seed in (0, 1)


def test_every_seed_runs_once_with_an_internet_of_its_own() -> None:
    seen: list[tuple[int, int]] = []

    @simulate(seeds=[3, 5, 8])
    async def test(internet: Internet) -> None:
        await trio.sleep(1)
        seen.append((internet.run.seed, len(internet.hosts)))
        internet.add_host("alice")

    test()
    assert seen == [(3, 0), (5, 0), (8, 0)]


def test_the_simulated_test_is_a_plain_function_without_the_internet_argument() -> None:
    @simulate()
    async def test(internet: Internet, number: int, word: str = "w") -> None:
        """The sentence."""

    assert not inspect.iscoroutinefunction(test)
    assert list(inspect.signature(test).parameters) == ["number", "word"]
    assert test.__doc__ == "The sentence."


def test_a_failure_names_its_seed_and_the_line_that_replays_it() -> None:
    @simulate(seeds=range(10))
    async def test(internet: Internet) -> None:
        await trio.lowlevel.checkpoint()
        assert internet.run.seed < 7, "too high"

    with pytest.raises(AssertionError, match="too high") as failure:
        test()
    (note,) = failure.value.__notes__
    assert note.startswith(f"seed 7; replay: env {SEED_VARIABLE}=7 pytest ")
    assert (
        "tests/vnet/test_simulate.py::test_a_failure_names_its_seed_and_the_line"
        in note
    )


def test_the_environment_chooses_the_one_seed_to_replay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[int] = []

    @simulate(seeds=range(10))
    async def test(internet: Internet) -> None:
        await trio.lowlevel.checkpoint()
        seen.append(internet.run.seed)

    monkeypatch.setenv(SEED_VARIABLE, "42")
    test()
    assert seen == [42]


def test_a_run_that_waits_for_ever_ends_at_its_limit() -> None:
    ended_at: list[float] = []

    @simulate(seeds=[1], limit_s=30)
    async def test(internet: Internet) -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended_at.append(trio.current_time())

    with pytest.raises(trio.TooSlowError) as failure:
        test()
    assert ended_at == [30.0]
    waits, _ = failure.value.__notes__
    assert waits.startswith("at 30 s tasks wait:")
    assert "test_simulate.py:" in waits


def test_a_run_that_spins_is_ended_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "TURNS_AT_ONE_INSTANT_MAX", 1_000)

    @simulate(seeds=[1])
    async def test(internet: Internet) -> None:
        await trio.sleep(5)
        while True:
            await trio.lowlevel.checkpoint()

    with pytest.raises(trio.TooSlowError) as failure:
        test()
    assert failure.value.__notes__[0] == "tasks spin: time stood still at 5.0 s"


def test_an_observer_that_asserts_ends_the_run_with_its_error() -> None:
    @simulate(seeds=[1])
    async def test(internet: Internet) -> None:
        def object_to(sighting: Sighting) -> None:
            assert sighting.payload != b"forbidden", "an observer objects"

        internet.observe(object_to)
        alice = internet.add_host("alice")
        async with alice.open_udp(alice.at(7000)) as socket:
            socket.send_nowait(b"permitted", socket.address)
            socket.send_nowait(b"forbidden", socket.address)
            await trio.sleep_forever()

    with pytest.raises(AssertionError, match="an observer objects"):
        test()


def order_of_tasks(seed: int) -> list[int]:
    order: list[int] = []

    async def body() -> None:
        async def step(number: int) -> None:
            for _ in range(3):
                await trio.sleep(1)
                order.append(number)

        async with trio.open_nursery() as nursery:
            for number in range(10):
                nursery.start_soon(step, number)

    run_deterministically(Internet(seed), body, limit_s=10)
    return order


def test_trio_schedules_by_seed_alone() -> None:
    # Uses trio's private parts: when this fails, trio has changed, and
    # `simulate._deterministic_scheduling` has to be changed with it.
    assert hasattr(trio_run, "_ALLOW_DETERMINISTIC_SCHEDULING")
    state = trio_run._r.getstate()
    assert order_of_tasks(1) == order_of_tasks(1)
    assert len({tuple(order_of_tasks(seed)) for seed in range(20)}) == 20
    assert trio_run._r.getstate() == state


async def busy_run(internet: Internet) -> None:
    """Much at once: NATs, jitter, loss, many tasks, random ports and payloads."""
    quality = LinkQuality(
        delay_s=0.02, jitter_s=0.02, loss=0.1, duplicate=0.1, reorder=0.1, corrupt=0.1
    )
    server = internet.add_host("server", quality=quality)

    async def echo() -> None:
        async with server.open_udp(server.at(7000)) as socket:
            while True:
                for payload, source in await socket.receive_many():
                    socket.send_nowait(payload + b"!", source)

    async def client(number: int) -> None:
        kind = ("symmetric-random", "home", "symmetric-sequential")[number % 3]
        router = internet.add_router(f"router-{number}", kind, quality=quality)
        host = internet.add_host(f"client-{number}", behind=router)
        async with host.open_udp(host.at(0)) as socket:
            for _ in range(20):
                socket.send_nowait(host.random_bytes(50), server.at(7000))
                with trio.move_on_after(0.1):
                    await socket.receive_many()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(echo)
        async with trio.open_nursery() as clients:
            for number in range(12):
                clients.start_soon(client, number)
        nursery.cancel_scope.cancel()


def trace_of(seed: int) -> str:
    internet = Internet(seed)
    run_deterministically(internet, lambda: busy_run(internet), limit_s=60)
    assert internet.ledger.fates.total() > 400
    return internet.ledger.trace()


def test_the_same_seed_gives_the_same_trace_and_another_seed_another() -> None:
    traces = [trace_of(seed) for seed in (1, 1, 2, 2, 3)]
    assert traces[0] == traces[1]
    assert traces[2] == traces[3]
    assert len(set(traces)) == 3


def test_the_trace_is_the_same_in_other_processes_with_other_hash_seeds() -> None:
    program = (
        "from tests.vnet.test_simulate import trace_of; print(trace_of(1), trace_of(2))"
    )
    root = Path(__file__).parents[2]
    traces = [trace_of(1), trace_of(2)]
    for hash_seed in ("0", "1", "4242"):
        result = subprocess.run(
            [sys.executable, "-c", program],
            cwd=root,
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(root)},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        assert result.stdout.split() == traces
