"""Hostile bytes for every decoder and for whole nodes.

    python -m tests.fuzz --inputs 1000000 --seed 1 [--target NAME]

A *target* takes bytes and may refuse them in the one way it documents; anything else is
a failure. Inputs come in *rounds*; a round depends on the seed, the target and its own
number only, and a failure prints the line that repeats it. A short form runs with the
other tests (`test_fuzz.py`).
"""
