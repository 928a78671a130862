"""How fast a dense model encodes on a GPU: diptych beside sentence-transformers on the same device, in one run.

    python tests/benchmarks/bench_gpu.py --documents 5000 --rounds 5

Without a CUDA device this says so, measures nothing, and is no error. The ways:

- diptych's adapter in float32, float16 and bfloat16 (ADAPTERS below: a new option is a new row);
- compiled: the pipeline under torch.compile with dynamic shapes, texts sorted by length, batches of 128;
- CUDA graphs: the same with mode="reduce-overhead", lengths rounded up to multiples of 32 so that few graphs are
  recorded; the time of compiling and recording falls into round 0, which does not count;
- unpadded: sentence-transformers' own path with FlashAttention 2 and no padding, where flash-attn is installed.

sentence-transformers runs its own encode in float32, and in the same half precision, which is told apart. Every figure
has the least cosine to the library's float32 vectors beside it. `--device cpu` is for trying the script out.
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from corpora import folder_of, read_texts
from diptych.types import Floats
from diptych_adapters.models import resolve
from diptych_adapters.sentence_transformers import SentenceTransformerEncoder
from figures import RATIO, Figure, Result, ratios
from machine import versions
from rounds import interleaved, seconds
from variants import MINILM

Way = Callable[[Sequence[str]], Floats]
LIBRARY = "sentence-transformers float32"
PRECISIONS = ("float32", "float16", "bfloat16")
ADAPTERS: Mapping[str, Mapping[str, Any]] = {precision: {"precision": precision} for precision in PRECISIONS}
ROWS = 128  # of a batch for compiled pipelines
STEP = 32  # tokens that lengths are rounded up to for CUDA graphs
WARM_UP = 256
NO_DEVICE = "no CUDA device here: nothing was measured"


def library(device: str, precision: str, **model: Any) -> Way:
    dtype = getattr(torch, precision)
    made = SentenceTransformer(str(resolve(MINILM).path), device=device, model_kwargs={"dtype": dtype, **model})
    return lambda texts: np.asarray(made.encode(list(texts), show_progress_bar=False), np.float32)


def adapter(device: str, options: Mapping[str, Any]) -> Way:
    return SentenceTransformerEncoder.of(model=MINILM, device=device, **options).encode_document


class Pipeline(torch.nn.Module):
    """A pipeline as a module of two tensors, as compilers want it."""

    def __init__(self, model: SentenceTransformer) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.model({"input_ids": ids, "attention_mask": mask})["sentence_embedding"]
        return made


class Compiled:
    """Encodes with a compiled pipeline: texts sorted by length, always ROWS of them at once.

    Args:
        recorded: run it as CUDA graphs, one for each length; else with dynamic shapes.
    """

    def __init__(self, device: str, precision: str, *, recorded: bool) -> None:
        dtype = {"dtype": getattr(torch, precision)}
        self._model = SentenceTransformer(str(resolve(MINILM).path), device=device, model_kwargs=dtype)
        how: dict[str, Any] = {"mode": "reduce-overhead", "dynamic": False} if recorded else {"dynamic": True}
        self._run: Any = torch.compile(Pipeline(self._model).eval(), **how)
        self._device, self._step = device, STEP if recorded else 1

    def __call__(self, texts: Sequence[str]) -> Floats:
        limit = self._model.max_seq_length
        rows = self._model.tokenizer(list(texts), truncation=True, max_length=limit)["input_ids"]
        order = sorted(range(len(rows)), key=lambda place: -len(rows[place]))
        found = np.empty((len(rows), int(self._model.get_embedding_dimension() or 0)), np.float32)
        for first in range(0, len(order), ROWS):
            places = order[first : first + ROWS]
            found[places] = self._batch([rows[place] for place in places])
        return found

    def _batch(self, rows: Sequence[Sequence[int]]) -> Floats:
        ids, mask = filled(rows, self._step)
        with torch.inference_mode():
            given = (torch.from_numpy(array).to(self._device) for array in (ids, mask))
            return np.asarray(self._run(*given)[: len(rows)].float().cpu().numpy(), np.float32)


def filled(rows: Sequence[Sequence[int]], step: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ids and mask `[ROWS, tokens]`, tokens a multiple of the step; rows that are wanting repeat the last one."""
    width = -(-max(map(len, rows)) // step) * step
    ids, mask = np.zeros((ROWS, width), np.int64), np.zeros((ROWS, width), np.int64)
    for place in range(ROWS):
        row = rows[min(place, len(rows) - 1)]
        ids[place, : len(row)], mask[place, : len(row)] = row, 1
    return ids, mask


def ways(device: str) -> tuple[dict[str, Way], list[str]]:
    """The ways by name, and what a reader must know of those that are left out."""
    cuda = device.startswith("cuda")
    precisions = [p for p in ADAPTERS if cuda or p != "float16"]
    found = {
        f"sentence-transformers {precision}": library(device, precision)
        for precision in PRECISIONS
        if precision in precisions
    }
    found |= {f"diptych {name}": adapter(device, ADAPTERS[name]) for name in precisions}
    if not cuda:
        return found, ["A try on the processor: nothing compiled, no graphs, no FlashAttention."]
    for precision in ("float16", "bfloat16"):
        found[f"sorted {precision}, compiled"] = Compiled(device, precision, recorded=False)
        found[f"sorted {precision}, CUDA graphs"] = Compiled(device, precision, recorded=True)
    if importlib.util.find_spec("flash_attn") is None:
        return found, ["Unpadded batches were not measured: flash-attn is not installed."]
    unpadded = "sentence-transformers bfloat16, unpadded"
    return {**found, unpadded: library(device, "bfloat16", attn_implementation="flash_attention_2")}, []


def measure(device: str, texts: Sequence[str], rounds: int, corpus: str) -> Result:
    found, notes = ways(device)
    jobs = {name: partial(_once, way, texts, device) for name, way in found.items()}
    took = interleaved(jobs, rounds)
    figures: list[Figure] = []
    for base in [name for name in found if name.startswith("sentence-transformers") and "unpadded" not in name]:
        figures += [
            Figure("documents a second, ratio", name, RATIO, ratios(took[base], own), base)
            for name, own in took.items()
            if name != base and (base == LIBRARY or name.split(",")[0].split()[-1] == base.split()[-1])
        ]
    figures += [Figure("documents a second", name, "1/s", [len(texts) / s for s in own]) for name, own in took.items()]
    notes = [f"{len(texts)} documents of {corpus}, {rounds} rounds, device {_name(device)}.", *notes]
    return Result("Encoding on a GPU", [*figures, *_likeness(found, texts)], notes, {"diptych": versions()})


def _once(way: Way, texts: Sequence[str], device: str, number: int) -> float:
    """All texts in round 0 too, since each shape is compiled when it first comes; what was queued is waited for."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return seconds(lambda: way(texts))


def _likeness(found: Mapping[str, Way], texts: Sequence[str]) -> list[Figure]:
    some = list(texts[:WARM_UP])
    reference = _unit(found[LIBRARY](some))
    least = {name: float((_unit(way(some)) * reference).sum(axis=1).min()) for name, way in found.items()}
    return [Figure("least cosine of a document", name, "cosine", [cosine], LIBRARY) for name, cosine in least.items()]


def _unit(vectors: Floats) -> Floats:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def _name(device: str) -> str:
    return torch.cuda.get_device_name() if device.startswith("cuda") else device


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", default="debian-synopsis", help="a collection below $DIPTYCH_DATA")
    parser.add_argument("--documents", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        print(NO_DEVICE)
        Result("Encoding on a GPU", [], [f"{NO_DEVICE[0].upper()}{NO_DEVICE[1:]}."]).write(options.json)
        return
    folder = folder_of(options.corpus)
    texts = list(read_texts(folder).values())[: options.documents]
    measure(options.device, texts, options.rounds, folder.name).write(options.json)


if __name__ == "__main__":
    main()
