"""The options by which a command chooses microphone, speaker and files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import click

__all__ = ["AudioChoice", "audio_choice", "audio_options"]

F = TypeVar("F", bound=Callable[..., object])


@dataclass(frozen=True, slots=True)
class AudioChoice:
    """What was chosen; None leaves it to the daemon."""

    microphone: str | None
    speaker: str | None
    record: str | None


def audio_options(command: F) -> F:
    """Give a command --play, --record, --microphone and --speaker."""
    options = (
        click.option(
            "--play",
            metavar="FILE",
            help="Speak with an audio file instead of a microphone.",
        ),
        click.option(
            "--record", metavar="FILE", help="Write what is heard to a WAV file."
        ),
        click.option(
            "--microphone",
            metavar="SPEC",
            help="default, sound:NAME, file:PATH, tone:HZ or null.",
        ),
        click.option(
            "--speaker", metavar="SPEC", help="default, sound:NAME, file:PATH or null."
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def audio_choice(
    play: str | None, record: str | None, microphone: str | None, speaker: str | None
) -> AudioChoice:
    """Make specs of the options.

    Paths become absolute: the daemon has another working directory. Where files are
    played *and* recorded, nobody is assumed to listen, and no sound card is needed.
    """
    if play is not None and microphone is not None:
        raise click.UsageError("--play and --microphone exclude each other")
    if play is not None:
        microphone = f"file:{Path(play).expanduser().absolute()}"
        if record is not None and speaker is None:
            speaker = "null"
    if record is not None:
        record = str(Path(record).expanduser().absolute())
        if play is not None and _is_same(microphone, record):
            raise click.UsageError("--record would overwrite what --play plays")
    return AudioChoice(microphone, speaker, record)


def _is_same(spec: str | None, record: str) -> bool:
    played = Path((spec or "").removeprefix("file:"))
    return played.exists() and Path(record).exists() and played.samefile(record)
