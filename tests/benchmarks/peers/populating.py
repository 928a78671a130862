"""Populate end to end: diptych beside the default pipelines of three frameworks, and beside its own encoder."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial

from corpora import read_texts
from figures import RATIO, Figure, Result, ratios
from peers.models import minilm
from peers.talking import Worker, loaded
from rounds import interleaved
from variants import one

FRAMEWORKS = ("langchain", "llama-index", "haystack")
OURS, ENCODER = "diptych", "diptych's encoder alone"
WARM_UP = 64  # documents of round 0


def measure(options: argparse.Namespace) -> Result:
    texts = list(read_texts(options.corpus).values())[: options.documents]
    way, variant = one(options.ways)
    start = partial(loaded, threads=options.threads, model=str(minilm()), kind="dense")
    with ExitStack() as stack:
        ours = stack.enter_context(start("diptych", ways={OURS: variant.options}))
        jobs = {OURS: partial(_job, ours, "populate", texts), ENCODER: partial(_job, ours, "encode", texts)}
        for peer in FRAMEWORKS:
            jobs[peer] = partial(_job, stack.enter_context(start(peer, ways={peer: {}})), "populate", texts)
        seconds = interleaved(jobs, options.rounds)
        versions = {job.args[0].peer: job.args[0].versions for job in jobs.values()}
    return Result(
        title=f"Populate end to end, {options.corpus.name}",
        figures=_figures(seconds, way, len(texts)),
        notes=[
            f"{len(texts)} documents of {options.corpus.name}, {options.rounds} rounds, all-MiniLM-L6-v2.",
            "Frameworks: default batches, local mode in memory. diptych: Qdrant Edge on disk, embedding cache off.",
        ],
        versions=versions,
        threads=options.threads,
    )


def _job(worker: Worker, do: str, texts: Sequence[str], number: int) -> float:
    way, some = (OURS if worker.peer == "diptych" else worker.peer), texts if number else texts[:WARM_UP]
    asked = {"inputs": some} if do == "encode" else {"texts": some}
    return float(worker.ask(do, way=way, **asked))


def _figures(seconds: dict[str, list[float]], way: str, documents: int) -> list[Figure]:
    found = [
        Figure(
            "documents a second, ratio", way, RATIO, ratios(seconds[peer], seconds[OURS]), against=peer, wanted=">= 4.5"
        )
        for peer in FRAMEWORKS
    ]
    rate = ratios(seconds[ENCODER], seconds[OURS])
    found.append(Figure("documents a second, ratio", way, RATIO, rate, against=ENCODER, wanted=">= 0.9"))
    rates = {name: [documents / each for each in own] for name, own in seconds.items()}
    return found + [Figure("documents a second", name, "documents/s", own) for name, own in rates.items()]
