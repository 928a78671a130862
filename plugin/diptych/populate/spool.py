"""`Spool`: a temporary file of checked documents, for a second reading of a source that can be read only once."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self

from diptych.metadata.media_payloads import from_rows, to_rows
from diptych.populate.validate import Item
from diptych.types import Document


class Spool:
    """A file of items, deleted on leaving the block."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile("w+", encoding="utf-8", prefix="diptych-", suffix=".jsonl")  # noqa: SIM115

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def fill(self, items: Iterable[Item]) -> int:
        """Write all items; returns their number."""
        number = 0
        for item in items:
            number += 1
            document = item.document
            content = [
                document.id,
                document.text,
                document.title,
                dict(document.metadata),
                to_rows(document.media),
            ]
            self._file.write(json.dumps([*content, item.hash, item.input, item.point, item.position]) + "\n")
        return number

    def items(self) -> Iterator[Item]:
        """The written items."""
        self._file.seek(0)
        for line in self._file:
            identifier, text, title, metadata, media, content_hash, encoded, point, position = json.loads(line)
            document = Document(identifier, text, title, metadata, from_rows(media))
            yield Item(document, content_hash, encoded, point, position)
