"""What each part of int8 brings and costs: documents a second, and cosine to float32, in rounds by turns.

    python tests/benchmarks/compare_int8.py --documents 200 --rounds 7

all-MiniLM-L6-v2 by OpenVINO. `layers`: the linear layers, those that would lose much left out. `channels`: such layers
too, but for single channels. `filled up`: batches as the runner fills them up, which is what `precision: int8` runs.
What is not int8 computes in float32.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from statistics import median
from typing import Any

import torch

from corpora import folder_of, read_texts
from diptych.types import Floats
from diptych_adapters.engines import batches, int8, openvino_graph
from diptych_adapters.engines.backend import TRIAL
from diptych_adapters.engines.batches import Row, Runner, Tokens
from diptych_adapters.engines.int8 import GENERAL
from diptych_adapters.engines.torch_graph import SingleFeature
from diptych_adapters.sentence_transformers import SentenceTransformerEncoder
from machine import cores
from rounds import interleaved, seconds
from variants import MINILM

FILLED = ("filled up",)


def main() -> None:
    """Print a row for each part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", default="cranfield", help="a collection below $DIPTYCH_DATA")
    parser.add_argument("--documents", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(cores())
    texts = list(read_texts(folder_of(options.corpus)).values())[: options.documents]
    encoder: Any = SentenceTransformerEncoder.of(model=MINILM, device="cpu")
    tokens = Tokens(encoder.model.tokenizer, encoder.max_length)
    plain = openvino_graph.converted(SingleFeature(encoder.model, "sentence_embedding"), typed=False)
    models = made(plain, tokens.rows([*texts[:128], *TRIAL, *GENERAL]), tokens.pad)
    graphs = {name: openvino_graph.OpenVinoGraph(model, precision="float32") for name, model in models.items()}
    runners = {name: Runner(tokens, graph) for name, graph in graphs.items()}
    jobs = {name: lambda number, name=name: seconds(lambda: encode(name, runners, texts)) for name in models}
    times = interleaved(jobs, options.rounds)
    exact = encode("float32", runners, texts)
    for name, own in times.items():
        faster = sorted(other / mine for other, mine in zip(times["layers"], own, strict=True))
        likeness = (encode(name, runners, texts) * exact).sum(1)
        speed = f"{len(texts) / median(own):6.1f} documents/s, {median(faster):.2f} [{faster[0]:.2f}, {faster[-1]:.2f}]"
        print(f"{name:10} {speed} of layers alone; cosine {likeness.mean():.5f}, least {likeness.min():.5f}")


def made(plain: Any, rows: Sequence[Row], pad: int) -> dict[str, Any]:
    """The models by name."""
    with setting(int8, "APART", (0,)):
        layers = int8.quantized(plain, rows, pad)
    channels = int8.quantized(plain, rows, pad)
    return {"float32": plain, "layers": layers, "channels": channels, "filled up": channels}


def encode(name: str, runners: dict[str, Runner], texts: Sequence[str]) -> Floats:
    with nullcontext() if name in FILLED else setting(batches, "WASTE", -1.0):
        return runners[name].encode(texts)


@contextmanager
def setting(module: Any, name: str, value: Any) -> Iterator[None]:
    """The constant of a module with another value for a while."""
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)


if __name__ == "__main__":
    main()
