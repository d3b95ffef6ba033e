"""How often what is done: the defaults are the world's, meshes want shorter ones."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["HomesTiming", "MembersTiming"]


@dataclass(frozen=True, slots=True)
class HomesTiming:
    """How often a leaf tends to its homes."""

    keepalive_s: float = 20.0
    refresh_s: float = 300.0
    spread: float = 0.2
    more_homes_s: float = 2.0
    backoff_s_min: float = 0.5
    backoff_s_max: float = 60.0


@dataclass(frozen=True, slots=True)
class MembersTiming:
    """How often a supernode tends to the others."""

    news_s: float = 0.5
    news_rounds: int = 4
    news_fan_out: int = 3
    table_s: float = 30.0
    probe_s: float = 1.0
    dead_probe_s: float = 10.0
    greeting_spread_s: float = 0.006
    # For each member there is: 60 s in a network of 10,000.
    renewal_s: float = 300.0
    renewal_s_min: float = 5.0
    # However often somebody else speaks in our name.
    seeds_s: float = 300.0
    seeds_retry_s: float = 0.5
    seeds_retry_s_max: float = 60.0
    # While we are alone: doubling, with full jitter.
