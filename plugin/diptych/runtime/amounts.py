"""Times and sizes as text."""

from __future__ import annotations

MINUTE, HOUR, DAY = 60, 3600, 86400
KILO = 1000


def duration(seconds: float) -> str:
    """A time that was estimated: `under 1 s`, `34 s`, `12 min`, `3.5 h`, `2.1 days`."""
    if seconds < 1:
        return "under 1 s"
    if seconds < 2 * MINUTE:
        return f"{seconds:.0f} s"
    if seconds < 2 * HOUR:
        return f"{seconds / MINUTE:.0f} min"
    return f"{seconds / HOUR:.1f} h" if seconds < 2 * DAY else f"{seconds / DAY:.1f} days"


def size(count: float) -> str:
    """Bytes in decimal units: `430 kB`, `2.6 MB`."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < KILO:
            return f"{count:.0f} {unit}" if count >= 10 or unit == "bytes" else f"{count:.1f} {unit}"
        count /= KILO
    return f"{count:.1f} TB"


def moment(text: str) -> str:
    """A time of the metadata to the minute: `2026-11-25 04:10 UTC`."""
    return f"{text[:10]} {text[11:16]} UTC" if text else "at an unknown time"
