"""What a search says of a hit's text, as JSON values in the metadata of a framework's document."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Literal, TypeAlias

from diptych import Hit
from diptych.errors import DocumentError

Content: TypeAlias = Literal["document", "passage"]  # what the text of a hit's document is
SEARCH_KEY = "_diptych"  # metadata key for these values; diptych reserves it in any collection


def hit_details(hit: Hit, content: Content) -> dict[str, Any]:
    """The passages and highlights of a hit; empty where it has neither.

    Args:
        hit: of a search.
        content: with "document" `passages` has them all; with "passage" `passage` has the document's id and the place
            and score of the best one, which is the text. Places are always in the document's text.
    """
    details: dict[str, Any] = {}
    if hit.passages and content == "passage":
        best = hit.passages[0]
        details["passage"] = {"id": hit.id, "start": best.start, "end": best.end, "score": best.score}
    elif hit.passages:
        details["passages"] = [asdict(passage) for passage in hit.passages]
    if hit.highlight is not None:
        sentence, words = hit.highlight.sentence, hit.highlight.words
        details["highlight"] = {"sentence": sentence and asdict(sentence), "words": [list(place) for place in words]}
    return details


def require_document(details: object, *, where: str, error: type[DocumentError] = DocumentError) -> None:
    """Raise `error` if these details, of a document that is to be stored, say that it is one passage of another."""
    if isinstance(details, dict) and "passage" in details:
        raise error(
            "this is a passage of a document, not the document",
            where=where,
            do='add the document itself; a search with content="document" returns it',
        )
