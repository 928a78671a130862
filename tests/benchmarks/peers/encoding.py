"""Encoding documents with one model: diptych's variants beside sentence-transformers and FastEmbed."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np

from corpora import read_texts
from diptych.types import Floats
from figures import RATIO, Figure, Result, ratios
from peers.models import minilm, minilm_onnx
from peers.talking import PeerError, Worker, loaded
from rounds import interleaved
from variants import VARIANTS, chosen

LIBRARY, FASTEMBED = "sentence-transformers", "fastembed"
WARM_UP = 64  # documents of round 0
SAME = 0.9999  # least cosine between two runs of the same weights in float32


def measure(options: argparse.Namespace) -> Result:
    texts = list(read_texts(options.corpus).values())[: options.documents]
    variants = chosen(options.ways)
    with ExitStack() as stack:
        start = partial(loaded, threads=options.threads, kind="dense")
        sides = {
            LIBRARY: stack.enter_context(start(LIBRARY, ways={LIBRARY: {}}, model=str(minilm()))),
            FASTEMBED: stack.enter_context(start(FASTEMBED, ways={FASTEMBED: {}}, model=str(minilm_onnx()))),
        }
        ours = {name: variant.options for name, variant in variants.items()}
        diptych = stack.enter_context(start("diptych", ways=ours, model=str(minilm())))
        workers = {**sides, **dict.fromkeys(variants, diptych)}
        likeness = least_cosines(workers, texts)
        seconds = interleaved(
            {way: partial(_job, worker, way, texts) for way, worker in workers.items()}, options.rounds
        )
        versions = {worker.peer: worker.versions for worker in workers.values()}
    return Result(
        title=f"Encoding documents, {options.corpus.name}",
        figures=[*_ratios(seconds, list(variants)), *_rates(seconds, len(texts)), *_cosines(likeness)],
        notes=[
            f"{len(texts)} documents of {options.corpus.name}, {options.rounds} rounds, all-MiniLM-L6-v2, "
            "256 tokens read on all sides.",
            "Ratios are documents a second over those of the other side in the same round.",
        ],
        versions=versions,
        threads=options.threads,
    )


def _job(worker: Worker, way: str, texts: Sequence[str], number: int) -> float:
    return float(worker.ask("encode", way=way, inputs=texts if number else texts[:WARM_UP]))


def least_cosines(workers: Mapping[str, Worker], texts: Sequence[str]) -> dict[str, float]:
    """The least cosine of each way's vectors to the library's.

    Raises:
        PeerError: FastEmbed does not run the same weights.
    """
    vectors: dict[str, Floats] = {}
    with tempfile.TemporaryDirectory() as folder:
        for way, worker in workers.items():
            file = Path(folder) / "vectors.npy"
            worker.ask("vectors", way=way, inputs=texts, into=str(file))
            found = np.load(file)
            vectors[way] = found / np.linalg.norm(found, axis=1, keepdims=True)
    reference = vectors.pop(LIBRARY)
    found = {way: float((own * reference).sum(axis=1).min()) for way, own in vectors.items()}
    if found.get(FASTEMBED, 1) < SAME:
        raise PeerError(f"FastEmbed's vectors have a cosine of {found[FASTEMBED]:.5f} to the library's: other weights")
    return found


def _ratios(seconds: Mapping[str, list[float]], variants: Sequence[str]) -> list[Figure]:
    wanted = {LIBRARY: "library", FASTEMBED: "fastembed"}
    return [
        Figure(
            name="documents a second, ratio",
            way=way,
            against=other,
            unit=RATIO,
            values=ratios(seconds[other], seconds[way]),
            wanted=getattr(VARIANTS[way], wanted[other]),
        )
        for other in wanted
        for way in variants
    ]


def _rates(seconds: Mapping[str, list[float]], documents: int) -> list[Figure]:
    return [
        Figure(name="documents a second", way=way, unit="documents/s", values=[documents / each for each in own])
        for way, own in sorted(seconds.items(), key=lambda item: -median(item[1]))
    ]


def _cosines(likeness: Mapping[str, float]) -> list[Figure]:
    return [
        Figure(
            name="least cosine of a document",
            way=way,
            against=LIBRARY,
            unit="cosine",
            values=[cosine],
            wanted=VARIANTS[way].cosine if way in VARIANTS else "",
        )
        for way, cosine in likeness.items()
    ]
