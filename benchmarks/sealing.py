"""Sealed and opened datagrams a second, for a voice frame of 80 bytes.

    python -m benchmarks.sealing

The floor is the bare AEAD of `cryptography` with a loaded key, a constant nonce and the
same 13 bytes of associated data: what sealing adds to it is header, nonce, counter and
replay window. PyNaCl's AEAD does the same work by another road.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from nacl import bindings

from benchmarks.rounds import cpu_seconds, run_rounds
from overlay.noise import TransportKeys
from overlay.seal import Kind, Transport

DATAGRAMS_PER_ROUND = 2_000
FRAME = bytes(range(80))
KEY = bytes(range(32))
NONCE = bytes(12)
HEADER = bytes(13)
KEYS = TransportKeys(send=KEY, receive=KEY)


def koe() -> tuple[Callable[[], object], Callable[[], object]]:
    """Give sealing and opening of a round of datagrams in one session of ours."""
    transport = Transport(KEYS, their_index=1)
    sealed: list[bytes] = []

    def seal() -> None:
        for _ in range(DATAGRAMS_PER_ROUND):
            sealed.append(transport.seal(Kind.MEDIA, FRAME))

    def open_all() -> None:
        for datagram in sealed:
            transport.open(datagram)

    return seal, open_all


def bare_cryptography() -> tuple[Callable[[], object], Callable[[], object]]:
    """Give the same work with the AEAD alone."""
    cipher = ChaCha20Poly1305(KEY)
    sealed: list[bytes] = []

    def seal() -> None:
        for _ in range(DATAGRAMS_PER_ROUND):
            sealed.append(cipher.encrypt(NONCE, FRAME, HEADER))

    def open_all() -> None:
        for ciphertext in sealed:
            cipher.decrypt(NONCE, ciphertext, HEADER)

    return seal, open_all


def pynacl() -> tuple[Callable[[], object], Callable[[], object]]:
    """Give the same work with PyNaCl's AEAD."""
    encrypt = bindings.crypto_aead_chacha20poly1305_ietf_encrypt
    decrypt = bindings.crypto_aead_chacha20poly1305_ietf_decrypt
    sealed: list[bytes] = []

    def seal() -> None:
        for _ in range(DATAGRAMS_PER_ROUND):
            sealed.append(encrypt(FRAME, HEADER, NONCE, KEY))

    def open_all() -> None:
        for ciphertext in sealed:
            decrypt(ciphertext, HEADER, NONCE, KEY)

    return seal, open_all


CANDIDATES = {"Koe": koe, "cryptography": bare_cryptography, "PyNaCl": pynacl}
STEPS = ("seal", "open", "both")


def measure() -> Mapping[str, float]:
    """Do one round."""
    seconds = {}
    for name, prepare in CANDIDATES.items():
        seal, open_all = prepare()
        sealing, opening = cpu_seconds(seal), cpu_seconds(open_all)
        steps = zip(STEPS, (sealing, opening, sealing + opening), strict=True)
        for step, spent in steps:
            seconds[f"{name} {step}"] = spent / DATAGRAMS_PER_ROUND
    return seconds


def main() -> None:
    """Print the table."""
    rounds = run_rounds(measure)
    print("       datagrams/s of                      Koe, times as fast as")
    print("            Koe  cryptography      PyNaCl    cryptography  PyNaCl")
    for step in STEPS:
        speeds = [rounds.per_second(f"{name} {step}") for name in CANDIDATES]
        floor, peer = (
            rounds.speed_of(f"Koe {step}", f"{other} {step}")
            for other in ("cryptography", "PyNaCl")
        )
        print(
            f"{step:5} {speeds[0]:9.0f}  {speeds[1]:12.0f}  {speeds[2]:10.0f}"
            f"  {floor:14.2f}  {peer:6.2f}"
        )


if __name__ == "__main__":
    main()
