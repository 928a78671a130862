"""Queries end to end, encoding and search, one after another: diptych beside three frameworks."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np

from figures import RATIO, Figure, Result, ratios
from peers.models import minilm
from peers.populating import FRAMEWORKS
from peers.talking import Worker, loaded
from peers.vectors import in_turn, passages, store_vectors
from rounds import interleaved
from variants import one

EDGE, LOCAL = "diptych", "diptych on local mode"
LIMIT = 10


@dataclass(frozen=True, slots=True)
class Asked:
    """The queries and what came of them: milliseconds by round, and documents found, of each side."""

    queries: Sequence[Sequence[str]]  # by round
    milliseconds: dict[str, list[list[float]]] = field(default_factory=dict)
    found: dict[str, list[list[int]]] = field(default_factory=dict)

    def ask(self, worker: Worker, way: str, number: int) -> float:
        """One round's median."""
        answer = worker.ask("query", way=way, queries=self.queries[number], limit=LIMIT)
        seconds: list[float] = answer["seconds"]
        if number:
            self.milliseconds.setdefault(way, []).append([1000 * each for each in seconds])
            self.found.setdefault(way, []).extend(answer["found"])
        return median(seconds)


def measure(options: argparse.Namespace) -> Result:
    """Framework after framework, each in rounds with diptych; so no more than three collections are held at once."""
    texts = passages(options.corpora, options.points)
    asked = in_turn(options.corpora[0], options.rounds + 1, options.queries)
    way, variant = one(options.ways)
    figures: list[Figure] = []
    versions: dict[str, Mapping[str, str]] = {}
    start = partial(loaded, threads=options.threads, model=str(minilm()), kind="dense")
    ways = {EDGE: variant.options, LOCAL: {**variant.options, "store": "memory:"}}
    with tempfile.TemporaryDirectory() as folder, start("diptych", ways=ways) as ours:
        file = Path(folder) / "vectors.npy"
        store_vectors(ours, EDGE, texts, options.points, file)
        fill_seconds = {name: ours.ask("fill", way=name, texts=texts, vectors=str(file)) for name in ways}
        for peer in FRAMEWORKS:
            with start(peer, ways={peer: {}}) as theirs:
                fill_seconds[peer] = theirs.ask("fill", way=peer, texts=texts, vectors=str(file))
                figures += _compared(ours, theirs, Asked(asked), options, way)
                figures.append(Figure("memory of the process at most", peer, "MB", [theirs.ask("memory")]))
                versions[peer] = theirs.versions
        versions["diptych"] = ours.versions
    return Result(
        title=f"Queries end to end, {options.points:,} points",
        figures=figures,
        notes=_notes(options, texts, fill_seconds),
        versions=versions,
        threads=options.threads,
    )


def _compared(ours: Worker, theirs: Worker, asked: Asked, options: argparse.Namespace, way: str) -> list[Figure]:
    jobs: dict[str, Callable[[int], float]] = {
        EDGE: partial(asked.ask, ours, EDGE),
        LOCAL: partial(asked.ask, ours, LOCAL),
        theirs.peer: partial(asked.ask, theirs, theirs.peer),
    }
    middle = interleaved(jobs, options.rounds)
    figures = [
        Figure(
            "median time, ratio",
            f"{way}, {store}",
            RATIO,
            ratios(middle[theirs.peer], middle[side]),
            theirs.peer,
            wanted,
        )
        for side, store, wanted in ((EDGE, "Edge", ">= 4"), (LOCAL, "local mode", ""))
    ]
    for name, rounds in asked.milliseconds.items():
        for title, percent in (("median", 50), ("95%", 95)):
            values = [float(np.percentile(each, percent)) for each in rounds]
            beside = f" beside {theirs.peer}" if name != theirs.peer else ""
            figures.append(Figure(f"time of a query, {title}", name + beside, "ms", values))
    shared = [len(set(a) & set(b)) / LIMIT for a, b in zip(asked.found[EDGE], asked.found[theirs.peer], strict=True)]
    figures.append(
        Figure("documents found by both, of 10", EDGE, "share", [float(np.mean(shared))], against=theirs.peer)
    )
    return figures


def _notes(options: argparse.Namespace, texts: Sequence[str], fill_seconds: Mapping[str, float]) -> list[str]:
    filled = ", ".join(f"{name} {took:.0f} s" for name, took in fill_seconds.items())
    names = " and ".join(folder.name for folder in options.corpora)
    more = f"; {options.points - len(texts):,} are copies moved by noise" if options.points > len(texts) else ""
    return [
        f"{options.points:,} points: {len(texts):,} documents or passages of {names}{more}. Their vectors were written "
        f"to each store as they are, not encoded again ({filled}).",
        f"{options.queries} queries a round, {options.rounds} rounds, {LIMIT} documents wanted, each query asked once.",
        "Frameworks search qdrant-client's local mode, an exact scan in numpy, as their quick starts do. diptych "
        "searches Qdrant Edge, as its own does, and local mode, which shows the store's part. Edge's index finds "
        "approximately: see the share of documents found by both.",
    ]
