"""Checks that queries and documents are not mixed up."""

from __future__ import annotations

from typing import Any

from diptych.testing.checks.compare import SIDES, gap, numbers, score, vectors
from diptych.testing.checks.conditions import Conditions, Side, Triple
from diptych.testing.failures import ConformanceFailure, conformance_check


@conformance_check
def check_sides_as_declared(encoder: Any, conditions: Conditions) -> None:
    """An encoder that declares `asymmetric` encodes a text differently as query and as document; else the same."""
    asymmetric = conditions.declared(encoder, "asymmetric")
    if asymmetric is None:
        return
    texts = [text for triple in conditions.triples for text in triple] or list(conditions.texts)
    query, document = (vectors(encoder, side, texts) for side in SIDES)
    worst = max(gap(one, other) for one, other in zip(query, document, strict=True))
    if (worst > conditions.batch_tolerance) != asymmetric:
        raise ConformanceFailure(
            "encode_query and encode_document are not as the encoder declares",
            got=f"vectors of one text that differ by {worst:.3g}",
            expected=f"asymmetric = {asymmetric}: {'different' if asymmetric else 'the same'} vectors",
        )


@conformance_check
def check_queries_find_documents(encoder: Any, conditions: Conditions) -> None:
    """In each triple the query is nearer to its document. The failure says if swapping the sides would help."""
    for triple in conditions.triples:
        if margin(encoder, conditions, triple) <= 0:
            swapped = margin(encoder, conditions, triple, swapped=True) > 0
            raise ConformanceFailure(
                f"{triple[0]!r} is nearer to another document than to its own",
                where="right with the two sides swapped: are encode_query and encode_document mixed up?"
                if swapped
                else "",
                got=f"nearer to {triple[2]!r}",
                expected=f"nearer to {triple[1]!r}",
            )


@conformance_check
def check_known_vectors(encoder: Any, conditions: Conditions) -> None:
    """Known vectors are reproduced: their first numbers, as many as given, within `known_tolerance`."""
    for side, text, expected in conditions.known:
        computed = numbers(vectors(encoder, side, [text])[0]).ravel()[: len(expected)]
        worst = max(abs(float(one) - other) for one, other in zip(computed, expected, strict=True))
        if not worst <= conditions.known_tolerance:
            raise ConformanceFailure(
                f"encode_{side}({text!r}) is not the known vector",
                got=computed.tolist(),
                expected=list(expected),
            )


@conformance_check
def check_sibling_documents(encoder: Any, conditions: Conditions) -> None:
    """A sibling that differs only for queries declares the same `documents` and makes the same document vectors."""
    sibling = conditions.sibling
    if sibling is None:
        return
    one, other = encoder.fingerprint, sibling.fingerprint
    if not one.documents or one.documents != other.documents or one.space == other.space:
        raise ConformanceFailure(
            "the fingerprints do not say that queries alone differ",
            got=f"spaces {one.space} and {other.space}, documents {one.documents!r} and {other.documents!r}",
            expected="two spaces, and the same documents",
        )
    vectors_of_first, vectors_of_second = (vectors(each, "document", conditions.texts) for each in (encoder, sibling))
    worst = max(gap(vector, another) for vector, another in zip(vectors_of_first, vectors_of_second, strict=True))
    if not worst <= conditions.batch_tolerance:
        raise ConformanceFailure(
            "the fingerprints declare the same documents, and their vectors differ",
            got=f"a difference of {worst:.3g}",
            expected=f"at most {conditions.batch_tolerance:g}",
        )


def can_tell_sides(encoder: Any, conditions: Conditions) -> bool:
    """Whether swapped sides would be noticed: a triple would be ranked wrong, or both sides have a known vector."""
    sides = {side for side, _, _ in conditions.known}
    return len(sides) == 2 or any(margin(encoder, conditions, t, swapped=True) <= 0 for t in conditions.triples)


def margin(encoder: Any, conditions: Conditions, triple: Triple, *, swapped: bool = False) -> float:
    """How much nearer the query is to its document than to the other."""
    asking: Side = "document" if swapped else "query"
    answering: Side = "query" if swapped else "document"
    (query,) = vectors(encoder, asking, triple[:1])
    relevant, irrelevant = vectors(encoder, answering, triple[1:])
    return score(encoder, conditions, query, relevant) - score(encoder, conditions, query, irrelevant)
