"""How much of a stream must be read again: a threshold and a recent window beside a fixed number of passages.

    DIPTYCH_DATA=... python tests/benchmarks/compare_memory.py

The passages of XQuAD (English) are a stream, one a turn, as they stand there. Each question is asked at a turn drawn
after the one that answers it, and only earlier turns can be read. What is read is the recent window and what is found:
*read* is the mean number of passages, *answered* how often the answer is among them. The threshold is the one that
answers 95 % of every second question; all figures are of the others. In the dense case a question needs many passages:
eight questions are asked at once, and it counts which share of their eight passages is read. And questions are asked
before their answer is said, when nothing should be read but the window. Differences are from the threshold's figures,
with 95 % paired bootstrap intervals over the questions. All searches run through diptych, by all-MiniLM-L6-v2 in the
embedded store.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from arms import cell
from corpora import folder_of, read_documents
from diptych import Collection
from diptych.evaluate import read_beir

WINDOW, AT_ONCE, MOST, GOAL = 8, 8, 100, 0.95
METHOD = "the window and above the threshold"
DENSE: dict[str, Any] = {"adapter": "sentence-transformers", "model": "all-MiniLM-L6-v2", "device": "cpu"}


class Asked(NamedTuple):
    """A text that is asked at a turn, and the turns that it needs."""

    text: str
    turn: int
    needs: frozenset[int]


def asked(seed: int = 0) -> tuple[list[Asked], list[Asked], list[Asked], list[dict[str, Any]]]:
    """Single questions, eight at once, those that come too early, and the stream."""
    folder, random = folder_of("xquad-en"), np.random.default_rng(seed)
    turns = {name: turn for turn, name in enumerate(read_documents(folder))}
    stream = [{"id": own.id, "text": own.text, "turn": turns[own.id]} for own in read_documents(folder).values()]
    queries, qrels = read_beir(folder)
    answers = [(query.text, turns[next(iter(qrels.judgements[query.id]))]) for query in queries]
    last = len(turns)
    single = [Asked(text, int(random.integers(turn + 1, last + 1)), frozenset([turn])) for text, turn in answers]
    early = [
        Asked(text, int(random.integers(WINDOW, turn + 1)), frozenset()) for text, turn in answers if turn > WINDOW
    ]
    many = []
    for _ in range(300):
        drawn = [answers[place] for place in random.choice(len(answers), AT_ONCE, replace=False)]
        needs = frozenset(turn for _, turn in drawn)
        many.append(Asked(" ".join(text for text, _ in drawn), int(random.integers(max(needs) + 1, last + 1)), needs))
    return single, many, early, stream


def main() -> None:
    """Print the table."""
    single, many, early, stream = asked()
    with tempfile.TemporaryDirectory() as folder:
        config: dict[str, Any] = {
            "store": f"edge:{folder}",
            "collection": "stream",
            "slots": {"dense": DENSE},
            "populate": {"indexes": {"turn": "integer"}},
            "search": {"recent": {"field": "turn", "count": WINDOW}, "limit": MOST},
        }
        with Collection.open(config) as memory:
            memory.populate(stream)
            threshold = chosen(memory, single[::2])
            print(f"{len(stream)} turns; a window of {WINDOW}; threshold {threshold:.3f}")
            cells: dict[str, list[str]] = {}
            heads = ["what is read"]
            for name, questions in (
                ("one question", single[1::2]),
                (f"{AT_ONCE} questions at once", many),
                ("before the answer", early),
            ):
                heads += [f"{name}, {len(questions)} times: read", *["answered"] * bool(questions[0].needs)]
                for way, own in columns(memory, questions, threshold).items():
                    cells.setdefault(way, []).extend(own)
    for row in (heads, ["---"] * len(heads), *([way, *own] for way, own in cells.items())):
        print(f"| {' | '.join(row)} |")


def chosen(memory: Collection, questions: Sequence[Asked]) -> float:
    """The highest threshold that answers `GOAL` of the questions, window and all."""
    scores = []
    for own in questions:
        (needed,) = own.needs
        hits = {hit.document.metadata["turn"]: hit for hit in found(memory, own)}
        inside = needed >= own.turn - WINDOW
        scores.append(np.inf if inside else hits[needed].score if needed in hits else -np.inf)
    return float(np.quantile(scores, 1 - GOAL))


def columns(memory: Collection, questions: Sequence[Asked], threshold: float) -> dict[str, list[str]]:
    """What is read and, where something is needed, answered, by way; beside the threshold."""
    random = np.random.default_rng(1)
    ways: dict[str, Callable[[Asked], set[int]]] = {
        "the window alone": lambda own: set(range(max(0, own.turn - WINDOW), own.turn)),
        "the window and a random tenth": lambda own: {
            *range(max(0, own.turn - WINDOW), own.turn),
            *random.choice(own.turn, own.turn // 10, replace=False).tolist(),
        },
        METHOD: lambda own: turns(found(memory, own, score_threshold=threshold)),
    }
    for size in (1, 2, 4, 8, 16):
        ways[f"the window and the best {size}"] = partial(best, memory, size)
    found_by = {name: measured([way(own) for own in questions], questions) for name, way in ways.items()}
    return {
        name: [
            cell(values, None if name == METHOD else found_by[METHOD][place], digits)
            for place, (values, digits) in enumerate(zip(own, (1, 3), strict=False))
        ]
        for name, own in found_by.items()
    }


def measured(read: Sequence[set[int]], questions: Sequence[Asked]) -> list[NDArray[np.float64]]:
    """By question, how many turns are read and, where some are needed, which share of these is among them."""
    needed = [own for own in zip(read, questions, strict=True) if own[1].needs]
    shares = [len(one & own.needs) / len(own.needs) for one, own in needed]
    return [np.array([len(one) for one in read], np.float64), *([np.array(shares)] if shares else [])]


def found(memory: Collection, own: Asked, **options: Any) -> list[Any]:
    """What the memory gives at that turn."""
    return list(memory.search(own.text, where={"turn": {"lt": own.turn}}, **options))


def best(memory: Collection, size: int, own: Asked) -> set[int]:
    """The window and so many more."""
    return turns(found(memory, own, limit=WINDOW + size))


def turns(hits: Sequence[Any]) -> set[int]:
    """The turns of hits."""
    return {hit.document.metadata["turn"] for hit in hits}


if __name__ == "__main__":
    main()
