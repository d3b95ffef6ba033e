"""The facade over libopus: right lengths only, no exception but ours, repair works."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.errors import WireError
from media.frame import FRAME_SAMPLES, RATE_HZ, Pcm
from media.opus import (
    Decoder,
    Encoder,
    _bundled_with_pyav,
    has_lbrr,
    library_version,
)

TIMES_S = np.arange(50 * FRAME_SAMPLES) / RATE_HZ


def speechlike() -> list[Pcm]:
    """A second of something voiced: harmonics of 120 Hz, rising and falling."""
    harmonics = [np.sin(2 * np.pi * 120 * k * TIMES_S) / k for k in range(1, 12)]
    voiced = np.sum(harmonics, axis=0)
    samples = 6_000 * voiced * (0.6 + 0.4 * np.sin(2 * np.pi * 3 * TIMES_S))
    return list(samples.astype(np.int16).reshape(50, FRAME_SAMPLES))


def level(frame: Pcm) -> float:
    return float(np.sqrt(np.mean(frame.astype(float) ** 2)))


def test_a_frame_comes_back_as_a_frame() -> None:
    encoder, decoder = Encoder(bitrate_bps=24_000), Decoder()
    for frame in speechlike():
        decoded = decoder.decode(encoder.encode(frame))
        assert decoded.shape == (FRAME_SAMPLES,)
        assert decoded.dtype == np.int16
    assert level(decoded) == pytest.approx(level(frame), rel=0.3)


@pytest.mark.parametrize("bitrate_bps", [12_000, 24_000, 32_000])
def test_at_a_constant_rate_silence_is_as_long_as_speech(bitrate_bps: int) -> None:
    encoder = Encoder(bitrate_bps=bitrate_bps, fec=True, expected_loss_percent=10)
    silent = [np.zeros(FRAME_SAMPLES, np.int16)] * 20
    lengths = {len(encoder.encode(f)) for f in [*speechlike(), *silent]}
    assert lengths == {bitrate_bps // 400}


def test_a_variable_rate_can_be_had() -> None:
    encoder = Encoder(bitrate_bps=24_000, constant_rate=False)
    assert len({len(encoder.encode(frame)) for frame in speechlike()}) > 1


@given(st.integers(0, 4_000).filter(lambda n: n != FRAME_SAMPLES))
def test_any_other_length_of_pcm_is_refused(samples: int) -> None:
    with pytest.raises(ValueError, match="expected"):
        ENCODER.encode(np.zeros(samples, np.int16))


ENCODER = Encoder(bitrate_bps=24_000)
DECODER = Decoder()


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int32, np.float32])
def test_any_other_type_of_pcm_is_refused(dtype: type) -> None:
    with pytest.raises(ValueError, match="expected"):
        ENCODER.encode(np.zeros(FRAME_SAMPLES, dtype))


def test_two_dimensional_pcm_is_refused() -> None:
    with pytest.raises(ValueError, match="expected"):
        ENCODER.encode(np.zeros((1, FRAME_SAMPLES), np.int16))


def test_pcm_that_is_not_contiguous_is_encoded_for_what_it_shows() -> None:
    frame = speechlike()[0]
    spread = np.zeros(2 * FRAME_SAMPLES, np.int16)
    spread[::2] = frame
    assert Encoder(bitrate_bps=24_000).encode(spread[::2]) == Encoder(
        bitrate_bps=24_000
    ).encode(frame)


@settings(max_examples=500)
@given(st.binary(max_size=1_300))
def test_any_bytes_decode_to_a_frame_or_are_refused(packet: bytes) -> None:
    for decode in (DECODER.decode, DECODER.decode_fec):
        try:
            frame = decode(packet)
        except WireError:
            continue
        assert frame.shape == (FRAME_SAMPLES,)
    assert has_lbrr(packet) in (True, False)


@given(st.integers(0, 59), st.integers(0, 255))
def test_a_mutated_packet_decodes_to_a_frame_or_is_refused(at: int, byte: int) -> None:
    packet = bytearray(PACKET)
    packet[at] = byte
    try:
        frame = DECODER.decode(bytes(packet))
    except WireError:
        return
    assert frame.shape == (FRAME_SAMPLES,)


PACKET = Encoder(bitrate_bps=24_000).encode(speechlike()[5])


def test_a_packet_of_other_than_20_ms_is_refused() -> None:
    toc_of_10_ms = bytes([PACKET[0] & 0x07 | 0x60]) + PACKET[1:]
    with pytest.raises(WireError, match="480 samples"):
        Decoder().decode(toc_of_10_ms)


def test_an_empty_packet_is_refused_and_not_taken_for_a_loss() -> None:
    with pytest.raises(WireError):
        DECODER.decode(b"")
    assert not has_lbrr(b"")


def test_concealment_goes_on_from_what_was_heard() -> None:
    encoder, decoder = Encoder(bitrate_bps=24_000), Decoder()
    for frame in speechlike():
        heard = decoder.decode(encoder.encode(frame))
    assert level(decoder.conceal()) > 0.3 * level(heard)


def test_frames_given_earlier_stay_as_they_were() -> None:
    encoder, decoder = Encoder(bitrate_bps=24_000), Decoder()
    packets = [encoder.encode(frame) for frame in speechlike()]
    first = decoder.decode(packets[20])
    kept = first.copy()
    decoder.decode(packets[21])
    assert (first == kept).all()


def test_with_fec_a_lost_frame_is_nearer_to_the_truth_than_a_made_up_one() -> None:
    encoder = Encoder(bitrate_bps=32_000, fec=True, expected_loss_percent=10)
    packets = [encoder.encode(frame) for frame in speechlike()]
    assert sum(map(has_lbrr, packets)) > 20

    def errors(repair: bool) -> float:
        whole, holed, total = Decoder(), Decoder(), 0.0
        for index, packet in enumerate(packets[:-1]):
            truth = whole.decode(packet).astype(float)
            if index % 5 != 4 or index < 10:
                holed.decode(packet)
                continue
            heard = holed.decode_fec(packets[index + 1]) if repair else holed.conceal()
            total += float(np.mean((heard - truth) ** 2))
        return total

    assert errors(repair=True) < 0.5 * errors(repair=False)


def test_without_fec_no_packet_claims_to_repeat_another() -> None:
    # At a constant rate packets are padded, and the padding must not be read as flags.
    encoder = Encoder(bitrate_bps=24_000)
    assert not any(has_lbrr(encoder.encode(frame)) for frame in speechlike())


def test_repair_can_be_armed_and_disarmed_on_the_way() -> None:
    encoder = Encoder(bitrate_bps=32_000)
    encoder.expect_loss(10, fec=True)
    assert any(has_lbrr(encoder.encode(frame)) for frame in speechlike())
    encoder.expect_loss(0, fec=False)
    for frame in speechlike():
        last = encoder.encode(frame)
    assert not has_lbrr(last)


def test_the_library_says_what_it_is() -> None:
    assert library_version().startswith("libopus")


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.real
def test_importing_the_facade_loads_no_library() -> None:
    code = (
        "import media.voice, media.opus, sys; "
        "print(sorted({'opuslib', 'av', 'sounddevice'} & set(sys.modules)))"
    )
    assert python(code).stdout == "[]\n"


@pytest.mark.real
def test_a_wrong_path_in_the_environment_is_an_error_that_names_it() -> None:
    code = (
        "from media.errors import OpusMissing\n"
        "from media.opus import library_version\n"
        "try: library_version()\n"
        "except OpusMissing as error: print(error.code, error.cause)"
    )
    found = python(code, KOE_LIBOPUS="/nowhere/libopus.so")
    assert found.stdout.startswith("108 KOE_LIBOPUS=/nowhere/libopus.so")


@pytest.mark.real
def test_another_library_is_not_taken_for_opus() -> None:
    code = "from media.opus import library_version\nlibrary_version()"
    found = python(code, KOE_LIBOPUS="libc.so.6")
    assert "OpusMissing" in found.stderr


@pytest.mark.real
def test_a_new_system_library_is_preferred(tmp_path: Path) -> None:
    (bundled,) = _bundled_with_pyav()
    (tmp_path / "libopus.so.0").symlink_to(bundled)
    code = "from media.opus import library_version\nprint(library_version())"
    found = python(code, LD_LIBRARY_PATH=str(tmp_path))
    assert found.stdout.endswith("(libopus.so.0)\n")


@pytest.mark.real
def test_without_any_library_the_error_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "libopus.so.0").write_bytes(b"no library")
    code = (
        "import sys; sys.modules['av'] = None\n"
        "from media.errors import OpusMissing\n"
        "from media.opus import Encoder\n"
        "try: Encoder(bitrate_bps=24_000)\n"
        "except OpusMissing as error: print(error.code, error.next_step)"
    )
    found = python(code, LD_LIBRARY_PATH=str(tmp_path))
    assert found.stdout.startswith("108 Install it: `sudo apt install libopus0`")
