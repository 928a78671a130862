"""Dual views: for each query with an instruction its counterpart, in which two documents have swapped their labels.

An encoder that ignores instructions gives both views the same vector, and cannot get both right: over the two documents
alone the sum of its two InfoNCE terms is at least 2 ln 2.

"Dual-View Training for Instruction-Following Information Retrieval": the two views of an instance in one batch
(`samplers.PairedViews`), and relevance by query *and* instruction, since the negative of a view is its sister's
positive.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from diptych.errors import DocumentError
from diptych.generation import Instance
from diptych_training.data.generators import Generator
from diptych_training.data.mining import plain


@dataclass(frozen=True, slots=True)
class Instructed:
    """A query with an instruction, and documents by their ids.

    Args:
        query: text of the query.
        instruction: a further condition.
        positive: satisfies both.
        negative: on topic, and violates the instruction.
        others: further negatives; the same in both views.
    """

    query: str
    instruction: str
    positive: str
    negative: str
    others: tuple[str, ...] = ()

    @classmethod
    def from_mapping(cls, raw: Mapping[str, Any], *, where: str = "") -> Instructed:
        """From `{"query", "instruction", "positive", "negative", "others"?}`.

        Raises:
            DocumentError: something is missing or no text, or positive and negative are the same.
        """
        names = ("query", "instruction", "positive", "negative")
        values = [raw.get(name) for name in names]
        wrong = [name for name, value in zip(names, values, strict=True) if not isinstance(value, str) or not value]
        if wrong or raw["positive"] == raw["negative"]:
            got = f"no text in {', '.join(wrong)}" if wrong else f"{raw['positive']!r} is positive and negative"
            raise DocumentError(
                "a line is not an instance of an instruction", where=where, got=got, expected=", ".join(names)
            )
        query, instruction, positive, negative = map(str, values)
        return cls(query, instruction, positive, negative, tuple(map(str, raw.get("others", ()))))


@dataclass(frozen=True, slots=True)
class TrainingView:
    """One row: query, relevant document, negatives, and the group of views it belongs to."""

    query: str
    instruction: str
    positive: str
    negatives: tuple[str, ...]
    group: int

    @property
    def key(self) -> tuple[str, str]:
        """The key for relevance."""
        return self.query, self.instruction

    @property
    def text(self) -> str:
        """The text for the encoder."""
        return f"{self.query} {self.instruction}"


@dataclass(frozen=True, slots=True)
class DualViews:
    """Views in pairs, the original first, and the number of instances without one, by reason."""

    views: tuple[TrainingView, ...]
    dropped: Mapping[str, int] = field(default_factory=dict)

    @property
    def groups(self) -> list[int]:
        """The group of each view, for `samplers.PairedViews`."""
        return [view.group for view in self.views]


def originals(instances: Sequence[Instructed]) -> DualViews:
    """The instances unchanged, each a group of one: the baseline for dual views at equal numbers of rows."""
    return DualViews(tuple(_original(instance, place) for place, instance in enumerate(instances)))


def dual_views(
    instances: Sequence[Instructed], documents: Mapping[str, str], generator: Generator, *, seed: int = 0
) -> DualViews:
    """The two views of each instance for which the generator writes a counter-instruction; others are counted.

    Args:
        instances: the seed.
        documents: text by id.
        generator: writes counter-instructions.

    Raises:
        DocumentError: an instance names a document that is not there.
        RegistryError, ContractError, RemoteError: the generator cannot write.
    """
    requests = [
        Instance(item.query, item.instruction, _text(documents, item.positive), _text(documents, item.negative))
        for item in instances
    ]
    instructions = generator.counter(requests, seed=seed)
    dropped: Counter[str] = Counter()
    views: list[TrainingView] = []
    for instance, instruction in zip(instances, instructions, strict=True):
        reason = _unusable(instance, instruction)
        if reason:
            dropped[reason] += 1
            continue
        views += [_original(instance, len(views) // 2), reversed_view(instance, instruction, len(views) // 2)]
    return DualViews(tuple(views), dict(dropped))


def reversed_view(instance: Instructed, instruction: str, group: int = 0) -> TrainingView:
    """The counterpart: another instruction, positive and negative exchanged, everything else the same."""
    return TrainingView(instance.query, instruction, instance.negative, (instance.positive, *instance.others), group)


def view_rows(views: Sequence[TrainingView], documents: Mapping[str, str]) -> list[dict[str, Any]]:
    """Rows for a trainer: `query`, `positive`, `negative_1` ..., and `label`, the ids `[2 + H]` as integers.

    All rows have as many negatives as the view with the fewest. The first integer numbers query and instruction
    together; give a loss `Relevance(view_relevance(views, documents))`.

    Raises:
        DocumentError: a view names a document that is not there.
    """
    keys, numbers = _numbered(view.key for view in views), _numbered(documents)
    width = min((len(view.negatives) for view in views), default=0)
    return [_row(view, keys[view.key], numbers, documents, width) for view in views]


def view_relevance(views: Sequence[TrainingView], documents: Mapping[str, str]) -> set[tuple[int, int]]:
    """Which documents are relevant to which query with its instruction, as the numbers of `view_rows`."""
    keys, numbers = _numbered(view.key for view in views), _numbered(documents)
    return {(keys[view.key], numbers[view.positive]) for view in views if view.positive in numbers}


def _original(instance: Instructed, group: int) -> TrainingView:
    return TrainingView(
        instance.query, instance.instruction, instance.positive, (instance.negative, *instance.others), group
    )


def _unusable(instance: Instructed, instruction: str) -> str:
    if not instruction:
        return "no counter-instruction"
    return "the same instruction" if plain(instruction) == plain(instance.instruction) else ""


def _row(
    view: TrainingView, key: int, numbers: Mapping[str, int], documents: Mapping[str, str], width: int
) -> dict[str, Any]:
    negatives = view.negatives[:width]
    texts = {f"negative_{place}": _text(documents, document) for place, document in enumerate(negatives, 1)}
    label = [key, numbers[view.positive], *(numbers[document] for document in negatives)]
    return {"query": view.text, "positive": _text(documents, view.positive), **texts, "label": label}


def _numbered(keys: Iterable[Any]) -> dict[Any, int]:
    return {key: number for number, key in enumerate(dict.fromkeys(keys))}


def _text(documents: Mapping[str, str], identifier: str) -> str:
    if identifier not in documents:
        raise DocumentError("an instance names a document that is not there", where="dual views", got=repr(identifier))
    return documents[identifier]
