"""`Limits` of requests and `Bounds` of connections."""

from __future__ import annotations

from dataclasses import dataclass, replace

SPARE = 128  # descriptors left for stores, models and logs


@dataclass(frozen=True, slots=True)
class Limits:
    """What a request may contain.

    Args:
        body: bytes of a request's body; more is 413.
        inputs: texts to encode, queries, or documents to rerank; more is 422.
        characters: of each of them; more is 422.
        hits: that a search request may ask for or skip, all its queries together; more is 422.
        concurrent: requests that are under way at once after their bodies have come, beside health and metrics; more
            is 429.
        body_seconds: until a body must have come; later is 408.
        upload: bytes of the documents of a populate; more is 413.
        upload_rate: bytes per second that an upload has on average after `body_seconds`; a slower one is 408.
        spare: bytes that uploads leave free on the disk they are received on; less is 507.
    """

    body: int = 2 * 1024 * 1024
    inputs: int = 2048
    characters: int = 100_000
    hits: int = 10_000
    concurrent: int = 256
    body_seconds: float = 30.0
    upload: int = 1024 * 1024 * 1024
    upload_rate: int = 32 * 1024
    spare: int = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a client may use of a server before it sends a request.

    Args:
        connections: open at once; beyond it the one that has been idle longest is closed, or else the one that has sent
            parts of its body for longest and for `header_seconds`, or else the new one refused.
        header_seconds: until the headers of a request have come, from the connection or the request's first byte.
        idle_seconds: that a connection is kept between two requests.
    """

    connections: int = 1000
    header_seconds: float = 10.0
    idle_seconds: int = 60

    def fitting(self) -> Bounds:
        """The bounds with as many connections as file descriptors allow; the soft limit is raised if possible."""
        try:
            import resource
        except ImportError:  # Windows has no such limit
            return self
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        needed = self.connections + SPARE
        if soft != resource.RLIM_INFINITY and soft < needed:
            soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        if soft == resource.RLIM_INFINITY or soft >= needed:
            return self
        return replace(self, connections=max(soft - SPARE, soft // 2, 1))
