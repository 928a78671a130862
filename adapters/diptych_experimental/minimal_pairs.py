"""Minimal pairs: documents beside twins in which one property is changed, to see which properties a system tells apart.

A twin says another number, another name, or denies what the document says. A query that states the property should
score the document above its twin; a system that does not see the property scores the twin higher in half of the pairs.

After DualityForge, "Taming Hallucinations", which edits videos into such pairs and trains with them. Here texts are
edited, by rules, and nothing is trained.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from diptych.errors import EvaluationError
from diptych.evaluate import Qrels, bootstrap_means, ordered, percentile_interval
from diptych.media import MediaStore
from diptych.types import Document, Query, Run

Pixels: TypeAlias = NDArray[np.uint8]
CHANGED = 4.0  # least mean difference, of 255, that makes a twin another picture
_COLOUR = re.compile(r"\b(?:red|orange|yellow|green|blue|purple|violet|pink|brown)\b", re.IGNORECASE)
_SIDE = re.compile(r"\b(?:left|right)(?:ward|wards)?\b", re.IGNORECASE)

Property: TypeAlias = Literal["number", "name", "negation", "colour", "side"]
EVERY: tuple[Property, ...] = get_args(Property)
PROPERTIES = EVERY[:3]  # of texts; the others are of pictures, see `picture_pairs`
TWIN = "twin"  # the metadata key of twins, with the changed property

_NUMBER = re.compile(r"(?<![\w.])\d{1,15}(?:\.\d{1,15})*(?!\w|\.\d)")  # longer ones are keys rather than numbers
_WORD = re.compile(r"\w+")
_NEGATED = {
    "is": "is not",
    "are": "are not",
    "can": "cannot",
    **{f"{verb}s": f"does not {verb}" for verb in ("allow", "contain", "include", "provide", "support", "use")},
}
_AFFIRMED = re.compile(rf"\b({'|'.join(_NEGATED)})\b(?! (?:not|of)\b)")
_DENIES = re.compile(r"\b(?:not|no|without|never|cannot|non|none|nothing)\b|n't\b", re.IGNORECASE)
_Change: TypeAlias = tuple[
    re.Pattern[str], Callable[[re.Match[str]], str], int
]  # where, into what, how often; 0 is all


@dataclass(frozen=True, slots=True)
class MinimalPair:
    """A query, a document that is relevant to it, and the document's twin.

    Args:
        query: id of the query.
        document: id of the document.
        twin: the document with one property changed, under an id of its own; `metadata["twin"]` is the property.
        changed: the property.
    """

    query: str
    document: str
    twin: Document
    changed: Property


@dataclass(frozen=True, slots=True)
class Preference:
    """How often a system scores documents above their twins.

    Args:
        pairs: how many pairs it ranked.
        missing: pairs of which it ranked neither document.
        share: of the pairs in which the document is above its twin; equal scores count half. NaN without pairs.
        interval: of the share, 95 %, by resampling the pairs; None with fewer than two.
    """

    pairs: int
    missing: int
    share: float
    interval: tuple[float, float] | None


def minimal_pairs(
    queries: Iterable[Query],
    qrels: Qrels,
    documents: Mapping[str, Document],
    *,
    properties: Sequence[Property] = PROPERTIES,
    names: Sequence[Sequence[str]] = (),
    seed: int = 0,
) -> list[MinimalPair]:
    """Twins of judged documents, in which a property that the query states, too, is changed.

    - `number`: a number that query and document share is another one everywhere in the document;
    - `name`: so is a word of `names` that both share, by another word of its group;
    - `negation`: the first "is", "can", "provides" or the like of the text is denied (English only), if neither the
      query nor that sentence denies anything.

    Args:
        queries: with ids.
        qrels: documents of grade 1 or more are edited.
        documents: by id; judged ones that are not there are skipped.
        properties: which are tried; a pair of query and document gives at most one twin for each.
        names: groups of words that exclude each other, such as `("perl", "python", "ruby")`; case does not matter.
        seed: of what the new number or name is.

    Raises:
        EvaluationError: an unknown property, a group with fewer than two words, or more than a word in one place.
    """
    if unknown := [trait for trait in properties if trait not in PROPERTIES]:
        raise EvaluationError("unknown property", got=unknown[0], expected=", ".join(PROPERTIES))
    groups = _groups(names)
    edits: dict[Property, Callable[[str, Document, random.Random], _Change | None]] = {
        "number": _other_number,
        "name": lambda query, document, chance: _other_name(query, document, groups, chance),
        "negation": lambda query, document, _: _denial(query, document),
    }
    pairs = []
    for query in queries:
        for name in sorted(qrels.relevant(query.id) & documents.keys()):
            for changed in dict.fromkeys(properties):
                chance = random.Random(f"{seed} {query.id} {name} {changed}")
                change = edits[changed](query.text, documents[name], chance)
                if change is not None:
                    (where, into, count), document = change, documents[name]
                    twin = replace(
                        document,
                        id=f"{name}~{changed}~{query.id}",
                        title=document.title if changed == "negation" else where.sub(into, document.title),
                        text=where.sub(into, document.text, count),
                        metadata={**document.metadata, TWIN: changed},
                    )
                    pairs.append(MinimalPair(query.id, name, twin, changed))
    return pairs


def preferences(run: Run, pairs: Sequence[MinimalPair], *, seed: int = 0) -> dict[Property, Preference]:
    """How often the system scores documents above their twins, by property, in the order of `EVERY`.

    Args:
        run: rankings of a collection that holds the documents and their twins, or of these alone, by query id. A
            document that is not in a ranking is below all that are.
        pairs: of `minimal_pairs` or `picture_pairs`.
        seed: of the resampling.

    Raises:
        EvaluationError: the run has no ranking for a pair's query, or a ranking is malformed.
        MissingExtra: scipy is not installed.
    """
    found: dict[Property, list[float]] = {}
    for pair in pairs:
        if pair.query not in run.rankings:
            do = "search with the queries of the pairs"
            raise EvaluationError("a query has no ranking", where=f"run {run.name!r}", got=pair.query, do=do)
        found.setdefault(pair.changed, []).append(_preferred(run, pair))
    return {own: _preference(np.array(found[own]), seed) for own in EVERY if own in found}


def _preferred(run: Run, pair: MinimalPair) -> float:
    """1 for the document, 0 for its twin, 0.5 for equal scores, NaN if neither was ranked."""
    ranking = run.rankings[pair.query]
    ids = ordered(ranking, where=f"run {run.name!r}, query {pair.query!r}")
    places = [ids.index(own) if own in ids else None for own in (pair.document, pair.twin.id)]
    document, twin = places
    if document is None or twin is None:
        return float("nan") if document is twin else float(twin is None)
    scores = dict(ranking)
    return 0.5 if scores[pair.document] == scores[pair.twin.id] else float(document < twin)


def _preference(values: NDArray[np.float64], seed: int) -> Preference:
    ranked = values[~np.isnan(values)]
    interval = None
    if len(ranked) > 1:
        means = bootstrap_means(ranked, samples=10_000, seed=seed)
        low, high = percentile_interval(means, size=len(ranked), confidence=0.95)
        interval = (low, high)
    share = float(ranked.mean()) if len(ranked) else float("nan")
    return Preference(len(ranked), len(values) - len(ranked), share, interval)


def _other_number(query: str, document: Document, chance: random.Random) -> _Change | None:
    there = {*_NUMBER.findall(f"{document.title}\n{document.text}")}
    asked = {*_NUMBER.findall(query)}
    if not (shared := sorted(there & asked)):
        return None
    old = chance.choice(shared)
    head, dot, last = old.rpartition(".")
    others = [f"{head}{dot}{int(last) + step}" for step in (-3, -2, -1, 1, 2, 3) if int(last) + step >= 0]
    new = chance.choice([other for other in others if other not in there | asked] or [f"{old}9"])
    return re.compile(rf"(?<![\w.]){re.escape(old)}(?!\w|\.\d)"), lambda _: new, 0


def _other_name(
    query: str, document: Document, groups: Mapping[str, Sequence[str]], chance: random.Random
) -> _Change | None:
    there = {word.lower() for word in _WORD.findall(f"{document.title} {document.text}")}
    asked = {word.lower() for word in _WORD.findall(query)}
    for old in chance.sample(shared := sorted(there & asked & groups.keys()), len(shared)):
        if others := [own for own in groups[old] if own not in there | asked]:
            into = partial(_cased, chance.choice(others))
            return re.compile(rf"\b{re.escape(old)}\b", re.IGNORECASE), into, 0
    return None


def _denial(query: str, document: Document) -> _Change | None:
    text, first = document.text, _AFFIRMED.search(document.text)
    if first is None or _DENIES.search(query):
        return None
    # The sentence around it.
    begin = max((found.end() for found in re.finditer(r"[.!?\n]\s", text[: first.start()])), default=0)
    end = re.search(r"[.!?](?:\s|$)|\n", text[first.start() :])
    if _DENIES.search(text[begin : first.start() + end.start() if end else None]):
        return None
    return _AFFIRMED, lambda found: _NEGATED[found[1]], 1


def _cased(word: str, found: re.Match[str]) -> str:
    """The word, capitalised as the one found."""
    old = found[0]
    return word.upper() if old.isupper() and len(old) > 1 else word.capitalize() if old[:1].isupper() else word


def _groups(names: Sequence[Sequence[str]]) -> dict[str, list[str]]:
    """For each word, in lower case, the other words of its group."""
    found: dict[str, list[str]] = {}
    for group in names:
        words = [word.lower() for word in group]
        unusable = [word for word in words if not _WORD.fullmatch(word) or word in found]
        if isinstance(group, str) or len({*words}) < 2 or unusable:
            expected = "two or more different single words, each in one group"
            raise EvaluationError("a group of names cannot be used", where="names", got=group, expected=expected)
        found |= {word: [other for other in words if other != word] for word in words}
    return found


def picture_pairs(
    queries: Iterable[Query], qrels: Qrels, documents: Mapping[str, Document], store: MediaStore
) -> list[MinimalPair]:
    """Make twins of judged documents, with what the query says of the picture changed in it.

    - `colour`, if the query names one: red becomes green, green blue, blue red, other hues likewise; greys stay.
    - `side`, if the query says either left or right: the picture is mirrored.

    Twins have their pictures as arrays and no text: a caption would give them away. A picture that hardly changes,
    because it is grey or symmetric, has no twin. `preferences` says how often a system prefers the documents.

    Args:
        queries: with ids, in English.
        qrels: documents of grade 1 or more are edited.
        documents: by id, with `image` among their media; others are skipped.
        store: reads the pictures, such as `collection.handle.media`.

    Raises:
        MediaError: a picture cannot be read.
    """
    pairs = []
    for query in queries:
        sides = {found[0].lower()[:1] for found in _SIDE.finditer(query.text)}
        stated: list[Property] = ["colour"] if _COLOUR.search(query.text) else []
        stated += ["side"] if len(sides) == 1 else []
        for name in sorted(qrels.relevant(query.id) & documents.keys()):
            for changed in stated if "image" in documents[name].media else ():
                twin = _twin(documents[name], changed, f"{name}~{changed}~{query.id}", store)
                pairs += [MinimalPair(query.id, name, twin, changed)] if twin else []
    return pairs


def _twin(document: Document, changed: Property, name: str, store: MediaStore) -> Document | None:
    pixels: Any = store.content(store.take("image", document.media["image"]))
    edited: Pixels = np.ascontiguousarray(pixels[:, ::-1] if changed == "side" else pixels[..., [2, 0, 1]])
    if np.abs(edited.astype(np.int16) - pixels).mean() < CHANGED:
        return None
    metadata = {**document.metadata, TWIN: changed}
    return replace(document, id=name, title="", text="", media={"image": edited}, metadata=metadata)
