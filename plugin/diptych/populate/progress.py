"""`Progress`: who wants to watch a populate implements two methods."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Told how far each stage is: "measure" (when an encoder needs corpus statistics), "read", then "index".

    "index" ends below its total when documents turn out to be repeated or bad. Calls come from more than one thread.
    """

    def begin(self, stage: str, total: int | None) -> None:
        """A stage starts; `total` documents are expected, None when that is not known."""
        ...

    def advance(self, stage: str, n: int) -> None:
        """`n` more documents are through the stage."""
        ...


class Unwatched:
    """The progress nobody looks at."""

    def begin(self, stage: str, total: int | None) -> None:
        """Nothing."""

    def advance(self, stage: str, n: int) -> None:
        """Nothing."""
