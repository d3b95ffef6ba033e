"""The Opus codec for voice: 48 kHz mono, one frame = 960 samples = 20 ms.

A facade over opuslib, of which only the declarations are used: its classes copy
through Python lists, cannot switch FEC on, and do not check how much PCM they are
given, so that a short buffer makes libopus read past its end and send what it finds.

**Which libopus.** The version matters more than any setting, so the search is, first
hit wins: the path in `KOE_LIBOPUS`; the system's if it is 1.5 or newer; the one PyAV
brings along (1.6 today); the system's whatever its age. Nothing is loaded before the
first encoder or decoder is made: a daemon that never carries voice never pays.

`Encoder` and `Decoder` keep state from frame to frame: one each per direction of a
call, used from one thread. `decode*` raise `WireError` and nothing else.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib.util
import os
import platform
import re
import warnings
import weakref
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from media.errors import OpusMissing, WireError
from media.frame import FRAME_SAMPLES, RATE_HZ, Pcm

__all__ = ["Decoder", "Encoder", "has_lbrr", "library_version"]

PACKET_BYTES_MAX: Final = 1_275
# RFC 6716 §3.2.1: the largest one-frame packet.
EXPECTED_LOSS_PERCENT_MAX_OLD: Final = 10
# libopus before 1.5 told to expect 15 % spends so much on FEC that clean speech falls
# from PESQ 4.38 to 3.15.
GOOD_VERSION: Final = (1, 5)
VOIP: Final = 2048
SIGNAL_VOICE: Final = 3001


class _Library(NamedTuple):
    """A loaded libopus: opuslib's low-level modules, and which version is under them.

    The modules are untyped, hence `Any`; it does not leave this file.
    """

    native: Any
    ctl: Any
    encoder: Any
    decoder: Any
    version: tuple[int, ...]
    description: str


class Encoder:
    """Turns frames into Opus packets; lives as long as one direction of a call.

    At a constant bit rate (the default) every packet has the same length whatever is
    said, so that a listener on the path learns nothing from sizes.
    """

    def __init__(
        self,
        *,
        bitrate_bps: int,
        complexity: int = 10,
        constant_rate: bool = True,
        fec: bool = False,
        expected_loss_percent: int = 0,
    ) -> None:
        self._library = _load()
        encoder = self._library.encoder
        self._state = encoder.create_state(RATE_HZ, 1, VOIP)
        weakref.finalize(self, encoder.destroy, self._state).atexit = False
        self._packet = np.empty(PACKET_BYTES_MAX, np.uint8)
        self._packet_at = self._packet.ctypes.data
        ctl = self._library.ctl
        self._set(ctl.set_bitrate, bitrate_bps)
        self._set(ctl.set_complexity, complexity)
        self._set(ctl.set_vbr, int(not constant_rate))
        self._set(ctl.set_signal, SIGNAL_VOICE)
        self.expect_loss(expected_loss_percent, fec=fec)

    def expect_loss(self, percent: int, *, fec: bool) -> None:
        """Set what loss to prepare for, and whether packets repeat their predecessor.

        FEC does nothing at an expected loss of 0. Capped at 10 % on a libopus older
        than 1.5.
        """
        if self._library.version < GOOD_VERSION:
            percent = min(percent, EXPECTED_LOSS_PERCENT_MAX_OLD)
        self._set(self._library.ctl.set_packet_loss_perc, percent)
        self._set(self._library.ctl.set_inband_fec, int(fec))

    def encode(self, frame: Pcm) -> bytes:
        """Encode one frame. Raises `ValueError` unless it is 960 samples of int16."""
        if frame.dtype != np.int16 or frame.shape != (FRAME_SAMPLES,):
            raise ValueError(
                f"a frame of {frame.shape} {frame.dtype}, "
                f"expected ({FRAME_SAMPLES},) int16"
            )
        frame = np.ascontiguousarray(frame)
        length: int = self._library.native.opus_encode(
            self._state,
            frame.ctypes.data,
            FRAME_SAMPLES,
            self._packet_at,
            PACKET_BYTES_MAX,
        )
        assert length > 0, f"opus_encode returned {length}"
        return self._packet[:length].tobytes()

    def _set(self, request: Any, value: int) -> None:
        self._library.encoder.encoder_ctl(self._state, request, value)


class Decoder:
    """Turns Opus packets into frames, and fills gaps; one for each received stream.

    Exactly one call per 20 ms of sound: `decode` when the packet is there,
    `decode_fec` with the packet after it when that one is, else `conceal`.
    """

    def __init__(self) -> None:
        self._library = _load()
        decoder = self._library.decoder
        self._state = decoder.create_state(RATE_HZ, 1)
        weakref.finalize(self, decoder.destroy, self._state).atexit = False
        self._frame = np.zeros(FRAME_SAMPLES, np.int16)
        self._frame_at = self._frame.ctypes.data

    def decode(self, packet: bytes) -> Pcm:
        """Decode a packet. Raises `WireError` unless it holds 20 ms of Opus."""
        self._check(packet)
        return self._decode(packet, fec=0)

    def decode_fec(self, next_packet: bytes) -> Pcm:
        """Decode the frame *before* `next_packet` out of what that repeats of it.

        Worth it if `has_lbrr(next_packet)`; else it is no better than `conceal`. Then
        decode `next_packet` itself as usual. Raises `WireError` like `decode`.
        """
        self._check(next_packet)
        return self._decode(next_packet, fec=1)

    def conceal(self) -> Pcm:
        """Make up a frame that continues what was heard last."""
        return self._decode(None, fec=0)

    def has_lbrr(self, packet: bytes) -> bool:
        """Whether `decode_fec` of this packet is better than `conceal`."""
        return has_lbrr(packet)

    def _check(self, packet: bytes) -> None:
        # libopus would decode other lengths too, and an empty packet it takes for a
        # lost one; asked first, because a failed decode leaves its state half changed.
        samples = self._library.native.opus_packet_get_nb_samples(
            packet, len(packet), RATE_HZ
        )
        if not packet or samples != FRAME_SAMPLES:
            raise WireError(
                f"an Opus packet of {len(packet)} bytes and {samples} samples, "
                f"expected {FRAME_SAMPLES} samples"
            )

    def _decode(self, packet: bytes | None, fec: int) -> Pcm:
        samples: int = self._library.native.opus_decode(
            self._state,
            packet,
            len(packet) if packet else 0,
            self._frame_at,
            FRAME_SAMPLES,
            fec,
        )
        if samples != FRAME_SAMPLES:
            raise WireError(f"libopus gave {samples}, expected {FRAME_SAMPLES} samples")
        return self._frame.copy()


def has_lbrr(packet: bytes) -> bool:
    """Whether a mono packet repeats the frame before it (RFC 6716 §3.2, §4.2.3).

    The flag is the second bit of a SILK or hybrid frame. At a constant bit rate the
    frame is often padded, and then starts behind a count and the padding's length.
    """
    if len(packet) < 2 or packet[0] & 0x80:
        return False
    frame_at = 1
    if packet[0] & 0x03 == 3:
        frame_at = 2
        if packet[1] & 0x40:
            while packet[frame_at : frame_at + 1] == b"\xff":
                frame_at += 1
            frame_at += 1
    return frame_at < len(packet) and bool(packet[frame_at] & 0x40)


def library_version() -> str:
    """Give the version and path of the libopus in use. Raises `OpusMissing`."""
    return _load().description


@cache
def _load() -> _Library:
    path = _find()
    # opuslib looks for the library when it is imported, and only where the system's
    # linker looks; on a machine without a system libopus its import fails. So for the
    # length of that import the search is answered with what we have found. Its source
    # also has an `is not 0`, of which Python warns when it compiles it.
    search = ctypes.util.find_library
    ctypes.util.find_library = lambda name: path
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            import opuslib.api.ctl as ctl
            import opuslib.api.decoder as decoder
            import opuslib.api.encoder as encoder
    finally:
        ctypes.util.find_library = search
    native = encoder.opuslib.api.libopus
    _declare(native, encoder.EncoderPointer, decoder.DecoderPointer)
    text = _version_text(native)
    return _Library(native, ctl, encoder, decoder, _numbers(text), f"{text} ({path})")


def _declare(native: Any, encoder: Any, decoder: Any) -> None:
    """Say what libopus takes, where opuslib says nothing or wants copies.

    Only the two fixed arguments of the variadic `*_ctl` are declared: that is how
    ctypes learns that the third travels as variadic ones do, which on arm64 macOS is
    another place.
    """
    number, size, address = ctypes.c_int, ctypes.c_int32, ctypes.c_void_p
    native.opus_encode.argtypes = (encoder, address, number, address, size)
    native.opus_decode.argtypes = (decoder, address, size, address, number, number)
    native.opus_packet_get_nb_samples.argtypes = (address, size, size)
    native.opus_packet_get_nb_samples.restype = number
    native.opus_encoder_ctl.argtypes = (encoder, number)
    native.opus_decoder_ctl.argtypes = (decoder, number)


def _find() -> str:
    """Give the path of the libopus to use, in the order the module promises."""
    if chosen := os.environ.get("KOE_LIBOPUS"):
        if _version(chosen) is None:
            raise OpusMissing(f"KOE_LIBOPUS={chosen}: no libopus can be loaded there")
        return chosen
    system = _system_library()
    system_version = _version(system) if system else None
    if system and system_version and system_version >= GOOD_VERSION:
        return system
    for bundled in _bundled_with_pyav():
        if _version(bundled):
            return bundled
    if system and system_version:
        return system
    raise OpusMissing("neither this system nor PyAV has one")


def _system_library() -> str | None:
    # On Linux ctypes searches by running ldconfig and gcc (90 ms); the linker's own
    # search by soname is free.
    if platform.system() == "Linux":
        return "libopus.so.0"
    return ctypes.util.find_library("opus")


def _bundled_with_pyav() -> Iterator[str]:
    """Give the libopus of PyAV's wheel: `av.libs/`, on macOS `av/.dylibs/`.

    Found by path, because importing PyAV loads all of FFmpeg.
    """
    spec = importlib.util.find_spec("av")
    if spec is None or spec.origin is None:
        return
    package = Path(spec.origin).parent
    for folder in (package.with_name("av.libs"), package / ".dylibs"):
        for pattern in ("libopus*.so*", "libopus*.dylib", "*opus*.dll"):
            yield from map(str, sorted(folder.glob(pattern)))


def _version(path: str) -> tuple[int, ...] | None:
    """Load a library and give its version; None if it is not there or no libopus."""
    try:
        return _numbers(_version_text(ctypes.CDLL(path)))
    except (OSError, AttributeError):
        return None


def _version_text(native: Any) -> str:
    native.opus_get_version_string.restype = ctypes.c_char_p
    text: bytes = native.opus_get_version_string()
    return text.decode("ascii", "replace")


def _numbers(version_text: str) -> tuple[int, ...]:
    match = re.search(r"\d+(?:\.\d+)+", version_text)
    return tuple(map(int, match[0].split("."))) if match else (0,)
