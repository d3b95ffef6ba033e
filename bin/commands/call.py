"""`koe call` and `koe answer`: a conversation, from the first to the last word.

The call is the daemon's; the command watches it, and hangs up when it is ended itself
(Ctrl-C, a closed terminal), unless it was told to `--detach`.
"""

from __future__ import annotations

import signal
from typing import Final

import click
import trio

from bin.commands.ask import json_option, peer_argument, with_daemon
from bin.commands.audio import AudioChoice, audio_choice, audio_options
from bin.commands.pick import pick_call
from bin.control_client import Control
from bin.errors import Exit, ProgramError
from bin.output import (
    Progress,
    milliseconds,
    percent,
    print_json,
    print_notice,
    print_pairs,
    print_problem,
    print_steps,
    progress,
)
from bin.places import Places
from bin.reports import CallReport, EventReport
from bin.requests import AnswerParams, CallParams, WhichCall

__all__ = ["answer", "call", "describe_path", "follow", "print_call"]

REFRESH_S: Final = 0.5
# As often as a person can read numbers that change.

detach_option = click.option(
    "--detach", is_flag=True, help="Leave the call to the daemon, and end at once."
)


@click.command()
@peer_argument
@audio_options
@click.option("--relay-only", is_flag=True, help="Hide this machine's addresses.")
@click.option(
    "--hang-up-after",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="Hang up so long after the call was answered.",
)
@detach_option
@json_option
@click.pass_context
def call(
    context: click.Context,
    peer: str,
    play: str | None,
    record: str | None,
    microphone: str | None,
    speaker: str | None,
    relay_only: bool,
    hang_up_after: float | None,
    detach: bool,
    as_json: bool,
) -> None:
    """Call PEER and talk.

    PEER is a name, an id or a koe: link.

    With --play it ends when the file was played. Ctrl-C hangs up.
    """
    places: Places = context.obj
    audio = audio_choice(play, record, microphone, speaker)
    params = CallParams(
        peer=peer,
        microphone=audio.microphone,
        speaker=audio.speaker,
        record=audio.record,
        relay_only=relay_only,
        hang_up_when_played=play is not None,
        hang_up_after_s=hang_up_after,
        attached=not detach,
    )

    async def converse(control: Control) -> CallReport:
        with progress(as_json=as_json) as shown:
            events = await control.subscribe()
            shown.step(f"looking up {peer}...")
            placed = await control.ask("call", CallReport, params)
            if detach:
                return placed
            return await follow(control, placed, events, shown, as_json=as_json)

    _finish(context, with_daemon(places, converse), as_json=as_json)


@click.command()
@click.argument("call_id", metavar="[CALL]", required=False)
@audio_options
@detach_option
@json_option
@click.pass_context
def answer(
    context: click.Context,
    call_id: str | None,
    play: str | None,
    record: str | None,
    microphone: str | None,
    speaker: str | None,
    detach: bool,
    as_json: bool,
) -> None:
    """Answer a call and talk.

    Without CALL, the only one that rings. Ctrl-C hangs up.
    """
    places: Places = context.obj
    audio = audio_choice(play, record, microphone, speaker)

    async def converse(control: Control) -> CallReport:
        with progress(as_json=as_json) as shown:
            events = await control.subscribe()
            picked = await pick_call(control, call_id, ("ringing",))
            params = _answering(picked, audio, attached=not detach)
            answered = await control.ask("answer", CallReport, params)
            if detach:
                return answered
            return await follow(control, answered, events, shown, as_json=as_json)

    _finish(context, with_daemon(places, converse), as_json=as_json)


def _answering(call_id: str, audio: AudioChoice, *, attached: bool) -> AnswerParams:
    return AnswerParams(
        call=call_id,
        microphone=audio.microphone,
        speaker=audio.speaker,
        record=audio.record,
        attached=attached,
    )


async def follow(
    control: Control,
    call: CallReport,
    events: trio.MemoryReceiveChannel[EventReport],
    shown: Progress,
    *,
    as_json: bool,
) -> CallReport:
    """Show a call until its end, and give how it ended. SIGINT and SIGTERM hang up."""
    if not as_json:
        for notice in call.notices:
            print_notice(notice)
    shown.step(_state_of(call))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_hang_up_on_signal, control, call.id)
        nursery.start_soon(_refresh, control, call.id, shown)
        async for event in events:
            if event.call is None or event.call.id != call.id:
                continue
            call = event.call
            if event.kind == "call_ended":
                break
            shown.step(
                f"path: {event.text}"
                if event.kind == "path_changed"
                else _state_of(call)
            )
        else:
            raise ProgramError.of("801", "the daemon ended during the call")
        nursery.cancel_scope.cancel()
    return call


async def _hang_up_on_signal(control: Control, call_id: str) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            await control.ask("hang_up", CallReport, WhichCall(call_id))


async def _refresh(control: Control, call_id: str, shown: Progress) -> None:
    while True:
        await trio.sleep(REFRESH_S)
        call = await control.ask("show_call", CallReport, WhichCall(call_id))
        if call.state == "connected":
            shown.live(describe_path(call))


def describe_path(call: CallReport) -> str:
    """Say in one line how a call goes, with the reason when it is not direct."""
    said = [call.peer]
    for path in call.paths:
        if path.chosen:
            why = "" if path.route == "direct" else f" ({path.why})"
            said += [f"{path.route}{why}", f"RTT {milliseconds(path.rtt_s)}"]
    if call.audio is not None:
        said += [f"loss {percent(call.audio.loss)}"]
        said += [f"jitter {milliseconds(call.audio.jitter_s)}"]
        if call.audio.mos is not None:
            said += [f"MOS {call.audio.mos:.1f}"]
        if call.audio.muted:
            said += ["muted"]
    return "  ".join(said)


def _state_of(call: CallReport) -> str:
    match call.state:
        case "offering":
            return f"calling {call.peer} ({call.short_id})..."
        case "ringing" if call.incoming:
            return f"answering {call.peer}..."
        case "ringing":
            return f"ringing at {call.peer}..."
        case "ended":
            return f"the call with {call.peer} has ended"
        case _:
            relays = f" through {', '.join(call.relays)}" if call.relays else ""
            return f"connected to {call.peer}{relays}"


def _finish(context: click.Context, call: CallReport, *, as_json: bool) -> None:
    """Print a call, and end with the exit status of its end."""
    if as_json:
        print_json(call)
    else:
        print_call(call)
        if call.problem is not None:
            print_problem(call.problem, as_json=False)
    context.exit(Exit.OK if call.problem is None else call.problem.exit)


def print_call(call: CallReport) -> None:
    """Print how a call went: who, how long, by which way, and how well."""
    pairs = [
        ("call", f"{call.id}, {'from' if call.incoming else 'to'} {call.peer}"),
        ("state", _end_of(call)),
    ]
    if call.relays:
        pairs.append(("relays", ", ".join(call.relays)))
    pairs += [("path", _path(path.route, path.why)) for path in call.paths]
    if call.audio is not None:
        heard = call.audio
        pairs += [
            ("heard", f"{heard.packets_received} packets, {percent(heard.loss)} lost"),
            ("jitter", milliseconds(heard.jitter_s)),
            ("quality", "-" if heard.mos is None else f"MOS {heard.mos:.2f}"),
        ]
    print_pairs(pairs)
    if not call.incoming:
        print_steps(call.steps)


def _path(route: str, why: str) -> str:
    return f"{route}: {why}" if why else route


def _end_of(call: CallReport) -> str:
    if call.state != "ended":
        return call.state
    reason = (call.ended_reason or "unknown reason").replace("_", " ")
    by = {"us": "by us", "them": "by them", None: ""}[call.ended_by]
    instants = call.timeline
    lasted = ""
    if "connected" in instants and "ended" in instants:
        lasted = f" after {instants['ended'] - instants['connected']:.1f} s"
    return f"ended{lasted}: {reason} {by}".rstrip()
