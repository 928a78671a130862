"""`Limits`: how much one request may ask, and how many may ask at once."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """What a request may ask.

    Args:
        body: bytes of a request's body; more is 413.
        inputs: texts to encode, queries, or documents to rerank; more is 422.
        characters: of each of them; more is 422.
        hits: that a search request may ask for, all its queries together; more is 422.
        concurrent: requests that are under way at once, beside health and metrics; more is 429.
        body_seconds: until a body must have come; later is 408.
    """

    body: int = 16 * 1024 * 1024
    inputs: int = 2048
    characters: int = 100_000
    hits: int = 10_000
    concurrent: int = 256
    body_seconds: float = 30.0
