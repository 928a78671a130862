"""Reads the documents of a source without filling a collection, and says how much of them a model leaves unread."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from diptych.errors import DocumentError, PopulateError
from diptych.media import Modality, RawMedia
from diptych.populate.rejects import Rejected
from diptych.populate.sources.open_source import open_source
from diptych.protocols import TokenLimit
from diptych.types import Document


def read_documents(path: str | Path) -> Iterator[Document]:
    """The documents at `path`: any source that `diptych populate` reads. Entries without any text are left out.

    Raises:
        PopulateError: there is nothing to read, or an entry is not a document; its place is named.
    """
    for position, raw in enumerate(open_source(path), 1):
        if isinstance(raw, Rejected):
            raise PopulateError("an entry is not a document", where=f"{path}, {raw.where}", got=raw.reason)
        if not any(str(raw.get(part) or "").strip() for part in ("text", "title")):
            continue
        try:
            yield Document.from_mapping(raw)
        except DocumentError as error:
            raise PopulateError(
                "an entry is not a document", where=f"{path}, entry {position}", got=str(error)
            ) from error


def read_media(path: str | Path, modality: Modality, *, column: str | None = None) -> Iterator[tuple[str, RawMedia]]:
    """Ids and media of one modality at `path`; entries without it are left out.

    Args:
        path: a folder of such files, or any other source that `diptych populate` reads.
        modality: what is read.
        column: that holds it, or key of JSON lines; the key `media` when not given.

    Raises:
        PopulateError: there is nothing to read, or an entry is not a document; its place is named.
    """
    source = Path(path)
    columns = {column: modality} if column else None
    for raw in open_source(source, format=modality if source.is_dir() else None, media=columns):
        if isinstance(raw, Rejected):
            raise PopulateError("an entry is not a document", where=f"{path}, {raw.where}", got=raw.reason)
        media = raw.get("media")
        item = media.get(modality) if isinstance(media, Mapping) else None
        if item is not None:
            yield str(raw.get("id", raw.get("_id"))), item


def unread_warning(model: TokenLimit, documents: Sequence[str]) -> str:
    """A warning if more than a tenth of the tokens of a sample is unread, else ""."""
    from diptych.slots.unread import FIRST, MOST_UNREAD, unread_by

    sample = [text for text in documents if text][:: max(1, len(documents) // FIRST)]
    unread = unread_by(model, sample)
    if unread is None or unread.share <= MOST_UNREAD:
        return ""
    return (
        f"warning: {replace(unread, sampled=len(sample) < len(documents))}, and nothing is learned from them: "
        "raise training.max_length as far as the model can read, or train on passages"
    )
