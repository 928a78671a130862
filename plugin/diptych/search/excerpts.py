"""The passages and highlights of hits: which parts of a document answer the query.

Passages are scored by the vectors that are stored for them. Highlights are the sentence that a dense encoder finds
nearest to the query, and the words that match.
"""

from __future__ import annotations

import math
import re
import struct
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np

from diptych.handle.view import Memo
from diptych.passages import PassageEncoder
from diptych.passages.encoder import LastUsed
from diptych.passages.text_splitter import Boundaries, block_around
from diptych.protocols import Calibrated, TokenLimit
from diptych.runtime.untrusted import HIGHLIGHTED
from diptych.search.fusion import PointId
from diptych.search.request import SearchRequest
from diptych.search.store_calls import read_store
from diptych.slots.encode import encode
from diptych.slots.slot import Slot
from diptych.types import Document, Floats, Highlight, Hit, Passage, SparseVector

CHARACTERS_READ = 2_000  # characters of a document without passages, where the encoder does not tell how much it reads
_WORD = re.compile(r"\w+")
# Kana and Chinese characters, which have no spaces between words: lexicons compare them by overlapping pairs.
_UNSPACED = re.compile("([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]+)")
Place: TypeAlias = tuple[int, int]

_MOST_NUMBERS = 2**23  # numbers of four bytes: 32 MiB

PASSAGES_READ = 8  # passages of a candidate that a reranker may read, as many as its length takes
# How much the words count beside the vectors: a passage that has all of the query's terms rises by this many standard
# deviations of the document's scores. Chosen on half of the manual pages' queries: 1 to 5 are better than 0 on all.
_WORDS = 2.0


def has_passages(slot: Slot) -> bool:
    """Whether the passages of the slot can be scored one by one.

    They cannot while another encoder makes the slot's queries, since passages are cut by the documents' encoder.
    """
    return slot.passage_vectors and slot.query_slot is None


def with_passages(
    request: SearchRequest, hits: Sequence[Sequence[Hit]], most: int | None, *, slot: Slot | None = None
) -> list[list[Hit]]:
    """The hits of each query with their best passages, best first; unchanged where no slot has passages.

    Where a slot of the pipeline counts words, the passages' words count beside their vectors. Scores are the vectors'.

    Hits that have passages already, since a reranker has read them, keep the first of those.

    Args:
        request: the search; its hits hold title and text.
        hits: of each query.
        most: passages of a hit; None for all.
        slot: whose passages, by its vectors alone; those of the first slot that has some unless given.
    """
    own = [request.view.slots[name] for name in request.pipeline.slots]
    # The first slot that counts words, such as BM25, whose terms of a text cost next to nothing.
    counting = (one for one in own if one.kind == "sparse" and one.query_slot is None and not one.reads_media)
    by_words = slot is None and request.vector is None
    words = next((one for one in counting if by_words and isinstance(one.encoder, Calibrated)), None)
    slot = slot or next(filter(has_passages, own), None)
    if slot is None or not any(hits):
        return [list(page) for page in hits]
    remember = request.view.search_config.remember
    asked: Any = (
        [request.vector] if request.vector is not None else slot.encode_queries(request.texts, remember=remember)
    )
    queries, terms = [unit(query[0], slot) for query in asked], [list[int]() for _ in hits]
    if words is not None:  # each query's distinct terms; none where all its words are stop words
        vectors: list[Any] = words.encode_queries(request.texts, remember=remember)
        terms = [sorted({*vector.indices.tolist()}) for vector in vectors]
    found = {hit.point: hit for page in hits for hit in page if hit.point is not None and not hit.passages}
    documents = _documents(request, slot, words, found)
    return [
        [_with_best(hit, query, of_query, documents, most) for hit in page]
        for page, query, of_query in zip(hits, queries, terms, strict=True)
    ]


# The documents whose passages were shown last, so that hits seen again need no second request.
_SHOWN = Memo(lambda view: LastUsed[Hashable, DocumentPassages](_MOST_NUMBERS, lambda document: document.size))


def _documents(
    request: SearchRequest, slot: Slot, words: Slot | None, hits: Mapping[PointId, Hit]
) -> dict[PointId, DocumentPassages]:
    """The passages of the hits' documents; without those that other texts or passages are stored for by now."""
    reading, shown = slot.reading, _SHOWN(request.view)
    texts = {point: reading.of(hit.document.title, hit.document.text) for point, hit in hits.items()}
    # A version changes with each write of a point; the text identifies points of a recreated collection.
    vectors = (slot.vector, words.vector if words else None)
    keys = {point: (*vectors, point, hits[point].version, hash(text)) for point, text in texts.items()}
    found = {point: known for point, known in zip(keys, shown.get(keys.values()), strict=True) if known is not None}
    missing = {point: text for point, text in texts.items() if point not in found}
    if missing:
        stored = _stored(request, slot, {point: hits[point] for point in missing})
        read = {point: hits[point].document for point in missing if point in stored}
        places = _places(slot, read, [missing[point] for point in read])
        fit = {}
        for point, spans in places.items():
            if len(spans) == len(stored[point]):
                terms = None
                if words:  # encoded as queries: documents' weights may need statistics that an adopted collection lacks
                    texts_of_passages = [read[point].text[begin:end] for begin, end in spans]
                    made: list[Any] = encode(words.encoder, "sparse", "query", texts_of_passages, where=words.where)
                    terms = PassageTerms.of(made)
                fit[point] = DocumentPassages(stored[point], spans, terms)
        # Qdrant's local mode says version 0 of all points, so these are read each time.
        shown.add({keys[point]: found_part for point, found_part in fit.items() if hits[point].version})
        found |= fit
    return found


def _with_best(
    hit: Hit,
    query: Floats,
    terms: Sequence[int],
    documents: Mapping[PointId, DocumentPassages],
    most: int | None,
) -> Hit:
    if hit.passages:
        return replace(hit, passages=hit.passages[:most])
    document, text = documents.get(hit.point) if hit.point is not None else None, hit.document.text
    if document is None:
        return hit
    scores, places = (document.vectors @ query).tolist(), document.places
    order = scores
    if terms and document.terms is not None:
        mean = sum(scores) / len(scores)
        deviation = math.sqrt(sum((score - mean) ** 2 for score in scores) / len(scores))
        shares = document.terms.shares(terms, len(scores))
        order = [score + _WORDS * deviation * share for score, share in zip(scores, shares, strict=True)]
    ranked = sorted(range(len(places)), key=order.__getitem__, reverse=True)  # for few passages faster than numpy's
    best = ((*places[n], scores[n]) for n in [n for n in ranked if places[n][0] < places[n][1]][:most])
    return replace(hit, passages=tuple(Passage(text[start:end], start, end, score) for start, end, score in best))


def unit(vector: Floats, slot: Slot) -> Floats:
    """The vector as Qdrant compares it: of length 1 for cosine."""
    length = float(np.linalg.norm(vector))
    return vector / length if slot.similarity == "cosine" and length else vector


def _stored(request: SearchRequest, slot: Slot, hits: Mapping[PointId, Hit]) -> dict[PointId, Floats]:
    """The stored vectors of these hits, `[passages, dimension]` each; without those that were rewritten meanwhile."""
    view, names, fields = request.view, [slot.vector], request.view.layout.text_fields()
    shard_key = request.shard_key_selector
    records = read_store(
        view,
        lambda: view.client.retrieve(view.name, [*hits], with_payload=fields, with_vectors=names, **shard_key),
    )
    found = {}
    for record in records:
        stored, hit = view.layout.read(record.id, record.payload), hits[record.id].document
        vectors: Any = (record.vector or {}).get(slot.vector)  # type: ignore[union-attr]
        if vectors is not None and (stored.title, stored.text) == (hit.title, hit.text):
            # The rows as float32; numpy alone takes four times as long to read lists of lists.
            row = struct.Struct(f"{len(vectors[0])}f")
            found[record.id] = np.frombuffer(b"".join([row.pack(*values) for values in vectors]), np.float32).reshape(
                len(vectors), -1
            )
    return found


def _places(
    slot: Slot, documents: Mapping[PointId, Document], inputs: Sequence[str]
) -> dict[PointId, list[tuple[int, int]]]:
    """Begin and end of each passage in the documents' texts, equal where the encoder read the title alone."""
    encoder = slot.encoder
    assert isinstance(encoder, PassageEncoder), "the slot has passages"
    shifted = {}
    for (point, document), spans in zip(documents.items(), encoder.places(inputs), strict=True):
        length = len(document.text)
        shift = length - len(document.text.lstrip())  # white space before it is not encoded
        shifted[point] = [(min(start + shift, length), min(end + shift, length)) for start, end in spans]
    return shifted


@dataclass(frozen=True, slots=True)
class PassageTerms:
    """Which passages of a document have which terms: pairs in the order of the terms.

    Args:
        terms: of each pair, ascending; 4 bytes each.
        passages: the number of each pair's passage, from 0.
    """

    terms: array[int]
    passages: array[int]

    @classmethod
    def of(cls, vectors: Sequence[SparseVector]) -> PassageTerms:
        """Those of the passages' sparse vectors."""
        passages = np.repeat(np.arange(len(vectors), dtype=np.uint32), [len(vector.indices) for vector in vectors])
        terms = np.concatenate([np.zeros(0, np.uint32), *(vector.indices for vector in vectors)])
        order = np.argsort(terms, kind="stable")
        return cls(array("I", terms[order].tobytes()), array("I", passages[order].tobytes()))

    def shares(self, query: Sequence[int], count: int) -> list[float]:
        """The share of the query's terms that each passage has; terms of few passages count more.

        Args:
            query: the distinct terms of a query, at least one.
            count: of the document's passages.
        """
        found, whole = [0.0] * count, 0.0
        for term in query:  # a handful of both, for which numpy's calls cost more than all of this
            begin = bisect_left(self.terms, term)
            end = bisect_right(self.terms, term, begin)
            weight = math.log1p((count - (end - begin) + 0.5) / (end - begin + 0.5))
            whole += weight
            for passage in self.passages[begin:end]:
                found[passage] += weight
        return [weight / whole for weight in found]


@dataclass(frozen=True, slots=True, eq=False)
class DocumentPassages:
    """A document's passages.

    Args:
        vectors: float32 `[passages, dimension]`.
        places: where each begins and ends in the document's text.
        terms: their terms in a sparse slot of the pipeline; None where none takes part.
    """

    vectors: Floats
    places: Sequence[tuple[int, int]]
    terms: PassageTerms | None = None

    @property
    def size(self) -> int:
        """How many numbers are kept."""
        return self.vectors.size + (0 if self.terms is None else 2 * len(self.terms.terms))


def with_highlights(request: SearchRequest, hits: Sequence[Sequence[Hit]]) -> list[list[Hit]]:
    """The hits of each query with their highlights: in the best passage, or in the document where there is none.

    Args:
        request: the search; its hits hold title and text.
        hits: of each query.
    """
    slots = [request.view.slots[name] for name in request.pipeline.slots]
    # A slot that compares dense vectors of texts; another kind of input may be the name of a file.
    reads = (s for s in slots if s.spec.kind == "dense" and not s.reads_media and (s.query_slot or s).reads_texts)
    sentences = _sentences(request, next(reads, None), hits)
    matchers = [_matcher(request, slot) for slot in slots if _matches_words(slot)]
    marked: list[list[Hit]] = []
    for n, page in enumerate(hits):
        marked.append([])
        for hit in page:
            begin, end = (hit.passages[0].start, hit.passages[0].end) if hit.passages else (0, HIGHLIGHTED)
            words = _places_of_words(hit.document.text, begin, end, n, matchers)
            marked[-1].append(replace(hit, highlight=Highlight(next(sentences), words)))
    return marked


def matching_words(request: SearchRequest, texts: Sequence[str]) -> list[tuple[Place, ...]]:
    """The places of the words in each text that match the request's only query in a sparse slot or text index."""
    (query,) = request.texts
    slots = [request.view.slots[name] for name in request.pipeline.slots] if query.strip() else []
    matchers = [_matcher(request, slot) for slot in slots if _matches_words(slot)]
    return [_places_of_words(text, 0, HIGHLIGHTED, 0, matchers) for text in texts]


def _matches_words(slot: Slot) -> bool:
    """Whether the slot compares words of texts. A lexicon of pictures has words, but matches none of the text's."""
    return slot.kind in ("sparse", "text_index") and not slot.reads_media


def _sentences(request: SearchRequest, slot: Slot | None, hits: Sequence[Sequence[Hit]]) -> Iterator[Passage | None]:
    """The best sentence of each hit, in order; all of them are encoded in one call."""
    if slot is None:
        yield from (None for page in hits for _ in page)
        return
    asked = slot.query_slot or slot  # one encoder's documents and queries are compared, whoever made the stored ones
    encoder = asked.encoder.inner if isinstance(asked.encoder, PassageEncoder) else asked.encoder
    queries = asked.encode_queries(request.texts, remember=request.view.search_config.remember)
    places = [[_sentence_places(hit, slot, encoder) for hit in page] for page in hits]
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
    scored: list[tuple[float, int, int]] = []
    for begin, end in places:
        sentence = vectors[text[begin:end]]
        if slot.similarity == "euclidean":
            scored.append((-float(np.linalg.norm(query - sentence)), begin, end))
        else:
            scored.append((float(unit(query, slot) @ unit(sentence, slot)), begin, end))
    if not scored:
        return None
    score, begin, end = max(scored, key=lambda entry: (entry[0], -entry[1]))
    return Passage(text[begin:end], begin, end, score)


def _sentence_places(hit: Hit, slot: Slot, encoder: Any) -> list[Place]:
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


def _places_of_words(
    text: str, begin: int, end: int, query: int, matchers: Sequence[Callable[[int, set[str]], set[str]]]
) -> tuple[Place, ...]:
    places = list(_words(text, begin, min(end, len(text)))) if matchers else []
    words = {text[a:b] for a, b in places}
    matched = {word for matcher in matchers for word in matcher(query, words)} if words else set()
    joined: list[Place] = []  # those that overlap made one
    for a, b in places:
        if text[a:b] in matched and joined and a < joined[-1][1]:
            joined[-1] = (joined[-1][0], b)
        elif text[a:b] in matched:
            joined.append((a, b))
    return tuple(joined)


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


def _matcher(request: SearchRequest, slot: Slot) -> Callable[[int, set[str]], set[str]]:
    """Returns which of some words match the query of a number in this slot."""
    if slot.kind == "text_index":
        terms = [{text[a:b].casefold() for a, b in _words(text, 0, len(text))} for text in request.texts]
        return lambda query, words: {word for word in words if word.casefold() in terms[query]}
    asked = slot.query_slot or slot
    queries: list[Any] = asked.encode_queries(request.texts, remember=request.view.search_config.remember)
    if isinstance(asked.encoder, Calibrated):  # a word's own terms, after stemming and the like
        ids = [set(vector.indices.tolist()) for vector in queries]

        def of_terms(query: int, words: set[str]) -> set[str]:
            ordered = sorted(words)
            made: list[Any] = encode(asked.encoder, "sparse", "query", ordered, where=asked.where)
            pairs = zip(ordered, made, strict=True)
            return {w for w, vector in pairs if len(vector) and ids[query].issuperset(vector.indices.tolist())}

        return of_terms
    decoded = [{term.casefold() for term, _ in asked.encoder.decode(vector)} for vector in queries]
    return lambda query, words: {word for word in words if word.casefold() in decoded[query]}
