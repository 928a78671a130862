"""The highlights of hits: the sentence that a dense encoder finds nearest to the query, and the words that match."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np

from diptych.passages import PassageEncoder
from diptych.passages.text_splitter import Boundaries, block_around
from diptych.protocols import Calibrated, TokenLimit
from diptych.runtime.text_budget import HIGHLIGHTED
from diptych.search.excerpts.passages import unit
from diptych.search.request import SearchRequest
from diptych.slots.encode import encode
from diptych.slots.slot import Slot
from diptych.types import Floats, Highlight, Hit, Passage

CHARACTERS_READ = 2_000  # characters of a document without passages, where the encoder does not tell how much it reads
_WORD = re.compile(r"\w+")
# Kana and Chinese characters, which have no spaces between words: lexicons compare them by overlapping pairs.
_UNSPACED = re.compile("([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]+)")
Place: TypeAlias = tuple[int, int]


def with_highlights(request: SearchRequest, hits: Sequence[Sequence[Hit]]) -> list[list[Hit]]:
    """The hits of each query with their highlights: in the best passage, or in the document where there is none.

    Args:
        request: the search; its hits hold title and text.
        hits: of each query.
    """
    slots = [request.view.slots[name] for name in request.pipeline.slots]
    sentences = _sentences(request, next(filter(_reads_sentences, slots), None), hits)
    matchers = [_matcher(request, slot) for slot in slots if _matches_words(slot)]
    return [
        [replace(hit, highlight=Highlight(next(sentences), _matching(hit, n, matchers))) for hit in page]
        for n, page in enumerate(hits)
    ]


def matching_words(request: SearchRequest, texts: Sequence[str]) -> list[tuple[Place, ...]]:
    """The places of the words in each text that match the request's only query in a sparse slot or text index."""
    (query,) = request.texts
    slots = [request.view.slots[name] for name in request.pipeline.slots] if query.strip() else []
    matchers = [_matcher(request, slot) for slot in slots if _matches_words(slot)]
    return [_places_of_words(text, 0, HIGHLIGHTED, 0, matchers) for text in texts]


def _matches_words(slot: Slot) -> bool:
    """Whether the slot compares words of texts. A lexicon of pictures has words, but matches none of the text's."""
    return slot.kind in ("sparse", "text_index") and not slot.reads_media


def _reads_sentences(slot: Slot) -> bool:
    """Whether the slot compares dense vectors of texts; another kind of input may be the name of a file."""
    return slot.spec.kind == "dense" and not slot.reads_media and (slot.asker or slot).reads_texts


def _sentences(request: SearchRequest, slot: Slot | None, hits: Sequence[Sequence[Hit]]) -> Iterator[Passage | None]:
    """The best sentence of each hit, in order; all of them are encoded in one call."""
    if slot is None:
        yield from (None for page in hits for _ in page)
        return
    asked = slot.asker or slot  # documents and queries of one encoder are compared, whoever made the stored vectors
    encoder = asked.encoder.inner if isinstance(asked.encoder, PassageEncoder) else asked.encoder
    queries = asked.encode_queries(request.texts, remember=request.view.search_config.remember)
    places = [[_places(hit, slot, encoder) for hit in page] for page in hits]
    texts = {
        hit.document.text[begin:end]: None
        for page, of_query in zip(hits, places, strict=True)
        for hit, of_hit in zip(page, of_query, strict=True)
        for begin, end in of_hit
    }
    made = encode(encoder, "dense", "document", [*texts], where=asked.where) if texts else []
    vectors = dict(zip(texts, made, strict=True))
    for page, of_query, query in zip(hits, places, queries, strict=True):
        for hit, of_hit in zip(page, of_query, strict=True):
            yield _best(hit, of_hit, np.ravel(np.asarray(query)), vectors, asked)


def _best(hit: Hit, places: Sequence[Place], query: Floats, vectors: dict[str, Any], slot: Slot) -> Passage | None:
    text = hit.document.text
    scored = [(_score(query, vectors[text[begin:end]], slot), begin, end) for begin, end in places]
    if not scored:
        return None
    score, begin, end = max(scored, key=lambda entry: (entry[0], -entry[1]))
    return Passage(text[begin:end], begin, end, score)


def _score(query: Floats, sentence: Floats, slot: Slot) -> float:
    if slot.similarity == "euclidean":
        return -float(np.linalg.norm(query - sentence))
    return float(unit(query, slot) @ unit(sentence, slot))


def _places(hit: Hit, slot: Slot, encoder: Any) -> list[Place]:
    """Begin and end of the sentences of the best passage, or of what the encoder reads of the document."""
    text = hit.document.text
    begin, end = (hit.passages[0].start, hit.passages[0].end) if hit.passages else (0, _read(hit, slot, encoder))
    boundaries = Boundaries.of(text[begin:end])
    inside = [at for at in boundaries.cuts if block_around(at, boundaries.blocks) is None]
    cuts = [begin, *(begin + at for at in sorted(inside) if 0 < at < end - begin), end]
    stripped = ((a + len(text[a:b]) - len(text[a:b].lstrip()), a + len(text[a:b].rstrip())) for a, b in pairwise(cuts))
    return [(a, b) for a, b in stripped if a < b and _WORD.search(text, a, b)]


def _read(hit: Hit, slot: Slot, encoder: Any) -> int:
    """How many characters of the document's text the encoder reads."""
    document = hit.document
    most = encoder.max_tokens if isinstance(encoder, TokenLimit) else None
    if most is None:
        return min(len(document.text), CHARACTERS_READ)
    whole = slot.reading.of(document.title, document.text[: 50 * most])
    (spans,) = encoder.token_spans([whole])
    above = max(0, len(whole) - len(document.text[: 50 * most].strip()))  # the title, and what stands after it
    return len(document.text) if len(spans) <= most else max(0, int(spans[most - 1][1]) - above)


def _matching(hit: Hit, query: int, matchers: Sequence[Callable[[int, set[str]], set[str]]]) -> tuple[Place, ...]:
    """The places of the words that match the query of this number."""
    begin, end = (hit.passages[0].start, hit.passages[0].end) if hit.passages else (0, HIGHLIGHTED)
    return _places_of_words(hit.document.text, begin, end, query, matchers)


def _places_of_words(
    text: str, begin: int, end: int, query: int, matchers: Sequence[Callable[[int, set[str]], set[str]]]
) -> tuple[Place, ...]:
    places = list(_words(text, begin, min(end, len(text)))) if matchers else []
    words = {text[a:b] for a, b in places}
    matched = {word for matcher in matchers for word in matcher(query, words)} if words else set()
    return tuple(_joined((a, b) for a, b in places if text[a:b] in matched))


def _words(text: str, begin: int, end: int) -> Iterator[Place]:
    """The words of a part of the text; of scripts without spaces each two characters, which overlap."""
    for match in _WORD.finditer(text, begin, end):
        at = match.start()
        for part in _UNSPACED.split(match[0]):
            if len(part) > 1 and _UNSPACED.match(part):
                yield from ((n, n + 2) for n in range(at, at + len(part) - 1))
            elif part:
                yield (at, at + len(part))
            at += len(part)


def _joined(places: Iterable[Place]) -> Iterator[Place]:
    """The places, with those that overlap made one."""
    last: Place | None = None
    for begin, end in places:
        if last is not None and begin < last[1]:
            last = (last[0], end)
        else:
            if last is not None:
                yield last
            last = (begin, end)
    if last is not None:
        yield last


def _matcher(request: SearchRequest, slot: Slot) -> Callable[[int, set[str]], set[str]]:
    """Returns which of some words match the query of a number in this slot."""
    if slot.kind == "text_index":
        terms = [{text[a:b].casefold() for a, b in _words(text, 0, len(text))} for text in request.texts]
        return lambda query, words: {word for word in words if word.casefold() in terms[query]}
    asked = slot.asker or slot
    queries: list[Any] = asked.encode_queries(request.texts, remember=request.view.search_config.remember)
    if isinstance(asked.encoder, Calibrated):  # a word's own terms, after stemming and the like
        ids = [set(vector.indices.tolist()) for vector in queries]
        return lambda query, words: _of_terms(asked, ids[query], sorted(words))
    decoded = [{term.casefold() for term, _ in asked.encoder.decode(vector)} for vector in queries]
    return lambda query, words: {word for word in words if word.casefold() in decoded[query]}


def _of_terms(slot: Slot, terms: set[int], words: Sequence[str]) -> set[str]:
    vectors: list[Any] = encode(slot.encoder, "sparse", "query", words, where=slot.where)
    return {
        word
        for word, vector in zip(words, vectors, strict=True)
        if len(vector) and terms.issuperset(vector.indices.tolist())
    }
