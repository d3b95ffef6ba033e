"""`koe daemon`: the node itself, in the foreground."""

from __future__ import annotations

import logging
from pathlib import Path

import click
import trio

from bin.commands.audio import audio_choice, audio_options
from bin.errors import ProgramError
from bin.places import Places
from bin.settings import Answering, Supernode, load_settings

__all__ = ["daemon"]


@click.command()
@click.option("--name", metavar="NAME", help="What others can call you by.")
@click.option("--bind", metavar="HOST:PORT", help="Default 0.0.0.0:7000; 0: any port.")
@click.option(
    "--seed",
    metavar="HOST:PORT",
    multiple=True,
    help="A supernode to begin with; may be given several times.",
)
@click.option("--supernode", type=click.Choice([each.value for each in Supernode]))
@click.option("--network", metavar="NAME", help="Default koe; networks do not mix.")
@click.option(
    "--answer",
    type=click.Choice([each.value for each in Answering]),
    help="ask: it rings; contacts: contacts are answered at once; auto: everyone is.",
)
@audio_options
@click.option(
    "--log-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the log here instead of to the terminal.",
)
@click.pass_obj
def daemon(
    places: Places,
    name: str | None,
    bind: str | None,
    seed: tuple[str, ...],
    supernode: str | None,
    network: str | None,
    answer: str | None,
    play: str | None,
    record: str | None,
    microphone: str | None,
    speaker: str | None,
    log_file: Path | None,
) -> None:
    """Run the node until Ctrl-C.

    It can be found and called, and helps others when it may.

    Settings may also be in the file settings.toml; options go before it. --play,
    --record, --microphone and --speaker are for calls that do not choose their own.
    """
    from bin.daemon import run_daemon
    from nat.udp import KernelNetwork

    audio = audio_choice(play, record, microphone, speaker)
    options = {
        "name": name,
        "bind": bind,
        "seed": seed or None,
        "supernode": supernode,
        "network": network,
        "answer": answer,
        "microphone": audio.microphone,
        "speaker": audio.speaker,
        "record": audio.record,
    }
    settings = load_settings(places.settings_file, options)
    _log_to(log_file)
    trio.run(run_daemon, settings, places, KernelNetwork())


def _log_to(file: Path | None) -> None:
    try:
        logging.basicConfig(
            filename=file, format="%(asctime)s %(message)s", level=logging.INFO
        )
    except OSError as error:
        raise ProgramError.of("811", f"{file}: {error.strerror}") from None
