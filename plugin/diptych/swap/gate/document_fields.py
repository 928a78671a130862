"""Relevant documents as the collection holds them: which there are, and the metadata that groups judged queries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from diptych.evaluate import Qrels
from diptych.evaluate.slices import LANGUAGE, LENGTH
from diptych.handle.snapshot import View
from diptych.metadata.payloads import from_payload, id_filter

PAGE = 256


def fields_of_queries(view: View, by: Sequence[str], qrels: Qrels) -> dict[str, dict[str, str]]:
    """For each metadata key of `by`, what the most relevant document of each query says, by query id."""
    keys = [key for key in by if key not in (LENGTH, LANGUAGE)]
    if not keys:
        return {}
    best = {
        query: max(grades, key=lambda name: (grades[name], name))
        for query, grades in qrels.judgements.items()
        if grades
    }
    metadata = dict(_metadata(view, list(dict.fromkeys(best.values()))))
    return {
        key: {q: str(value) for q, name in best.items() if (value := metadata.get(name, {}).get(key)) is not None}
        for key in keys
    }


def held_documents(view: View, ids: Sequence[str]) -> set[str]:
    """Those of the documents that the collection has, whatever the tenant."""
    return {document for document, _ in _metadata(view, ids)}


def _metadata(view: View, ids: Sequence[str]) -> Iterator[tuple[str, Any]]:
    for start in range(0, len(ids), PAGE):
        part = ids[start : start + PAGE]
        records, _ = view.client.scroll(view.name, id_filter(part, view.layout), limit=len(part), with_payload=True)
        for record in records:
            document = from_payload(record.id, record.payload, view.layout)
            yield document.id, document.metadata
