"""Shows the prepared data as text, before hours are spent on a training."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from diptych_training.corpus import TrainingData
from diptych_training.rows import Lists

EXAMPLES, WIDTH = 3, 100


def data_files(folder: Path) -> list[str]:
    """The place of the prepared data of a run; empty without any."""
    names = sorted(path.name for path in folder.glob("*.jsonl"))
    return [f"what was prepared lies in {folder}: {', '.join(names)}"] if names else []


def examples(data: TrainingData, lists: Lists, count: int = EXAMPLES) -> list[str]:
    """The first queries with a relevant document and a negative, a line each."""
    return [line for example in islice(_examples(data, lists), count) for line in example]


def _examples(data: TrainingData, lists: Lists) -> Iterator[tuple[str, str, str]]:
    for query, documents in lists.items():
        relevant = data.relevant(query)
        negative = next((name for name in documents if name not in data.qrels.get(query, {})), None)
        if relevant and negative is not None:
            yield (
                _line("query", query, data.queries[query]),
                _line("  relevant", relevant[0], data.answer(query, relevant[0])),
                _line("  negative", negative, data.documents[negative]),
            )


def _line(label: str, name: str, text: str) -> str:
    line = " ".join(text.split())
    return f"{label} {name}: {line if len(line) <= WIDTH else line[: WIDTH - 4] + ' ...'}"
