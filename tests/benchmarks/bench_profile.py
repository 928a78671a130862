"""Where the time of encoding goes: GEMM, attention, rest of the graph, tokeniser, host; and the share of the peak.

    python tests/benchmarks/bench_profile.py --documents 400 --rounds 5

all-MiniLM-L6-v2 by OpenVINO, int8 and bfloat16. The graph's parts are those that OpenVINO counts for its own nodes:
fully connected layers are GEMM, fused subgraphs (scores, softmax and context) are attention, all others the rest.
Tokeniser: the ids of all documents, as `Tokens` makes them. Host: what is left of the time of `encode_document`,
which may come out below 0, since what is counted is another run. The
peak is the best of several runs of one large fully connected layer in the same precision, compiled by OpenVINO too, in
the same run; its share is what the linear layers' operations a second of the whole encoding are of that.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from corpora import folder_of, read_texts
from diptych_adapters.engines import int8, openvino_graph
from diptych_adapters.engines.backend import TRIAL
from diptych_adapters.engines.batches import TOKENS, Row, Tokens, batches, padded, whole_vectors
from diptych_adapters.engines.int8 import GENERAL
from diptych_adapters.engines.torch_graph import SingleFeature
from diptych_adapters.sentence_transformers import SentenceTransformerEncoder
from figures import Figure, Result
from machine import cores, versions
from variants import MINILM

PARTS = {"FullyConnected": "GEMM", "Subgraph": "attention", "MHA": "attention"}
GOAL = ">= 0.65"
LARGE = (4096, 1536, 1536)  # rows, inputs and outputs of the layer whose speed is taken for the peak


def measure(options: argparse.Namespace) -> Result:
    folder = folder_of(options.corpus)
    texts = list(read_texts(folder).values())[: options.documents]
    figures = [figure for precision in ("int8", "bfloat16") for figure in profile(precision, texts, options.rounds)]
    notes = [f"{len(texts)} documents of {folder.name}, {options.rounds} rounds; shares of encode_document."]
    return Result("Where the time of encoding goes", figures, notes, {"diptych": versions()})


def profile(precision: str, texts: Sequence[str], rounds: int) -> list[Figure]:
    encoder: Any = SentenceTransformerEncoder.of(model=MINILM, backend="openvino", precision=precision)
    tokens = Tokens(encoder.model.tokenizer, encoder.max_length)
    rows = tokens.rows(texts)
    plain = openvino_graph.converted(SingleFeature(encoder.model, "sentence_embedding"), typed=False)
    shown = tokens.rows([*TRIAL, *GENERAL])  # as the encoder was
    model = int8.quantized(plain, shown, tokens.pad) if precision == "int8" else plain
    request = compiled(model, precision, counting=True)
    work = 2 * sum(int(np.prod(node.input_value(1).get_shape())) for node in int8._linear(plain))
    work *= sum(row.shape[1] for row in rows)
    shares: dict[str, list[float]] = {name: [] for name in ("GEMM", "attention", "rest of the graph", "tokeniser")}
    reached, whole = [], []
    encoder.encode_document(texts)
    for _ in range(rounds):
        taken = seconds(lambda: encoder.encode_document(texts))
        inside = counted(request, rows, tokens)
        inside["tokeniser"] = seconds(lambda: tokens.rows(texts))
        for name, values in shares.items():
            values.append(inside[name] / taken)
        whole.append(taken)
        reached.append(work / taken / peak(precision))
    shares["host"] = [1 - sum(values) for values in zip(*shares.values(), strict=True)]
    way = f"openvino {precision}"
    found = [Figure(f"share of {name}", way, "", values) for name, values in shares.items()]
    wanted = GOAL if precision == "int8" else ""
    found.append(Figure(f"share of the {precision} GEMM peak", way, "", reached, wanted=wanted))
    return [*found, Figure("documents", way, "1/s", [len(texts) / taken for taken in whole])]


def counted(request: Any, rows: Sequence[Row], tokens: Tokens) -> dict[str, float]:
    """Seconds of the graph's parts over all rows."""
    found = dict.fromkeys(("GEMM", "attention", "rest of the graph"), 0.0)
    for places in batches([row.shape[1] for row in rows], TOKENS):
        width = whole_vectors(rows[places[0]].shape[1], tokens.max_length)
        given, mask = padded([rows[place] for place in places], tokens.pad, width=width)
        request.infer({"input_ids": given[0], "attention_mask": mask})
        for node in request.get_profiling_info():
            if node.status.name == "EXECUTED":
                found[PARTS.get(node.node_type, "rest of the graph")] += node.real_time.total_seconds()
    return found


def compiled(model: Any, precision: str, *, counting: bool = False) -> Any:
    settings = {
        "INFERENCE_PRECISION_HINT": openvino_graph.hint(precision),
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERF_COUNT": counting,
    }
    return openvino_graph.openvino().Core().compile_model(model, "CPU", settings).create_infer_request()


def peak(precision: str) -> float:
    """Operations a second of one large layer."""
    from openvino import Model, PartialShape, Type, opset13

    rows, inputs, outputs = LARGE
    random = np.random.default_rng(0)
    given = opset13.parameter(PartialShape([1, rows, inputs]), Type.f32)
    matrix = random.standard_normal((outputs, inputs)).astype(np.float32)
    bounds = [opset13.constant(np.float32(bound)) for bound in (-4.0, 4.0)]
    quantized = precision == "int8"
    left = opset13.fake_quantize(given, *bounds, *bounds, 256) if quantized else given
    ends = [opset13.constant(end) for end in (-abs(matrix).max(1, keepdims=True), abs(matrix).max(1, keepdims=True))]
    weights = opset13.constant(matrix)
    right = opset13.fake_quantize(weights, *ends, *ends, 255) if quantized else weights
    product = opset13.matmul(left, right, False, True)
    request = compiled(Model([opset13.reduce_max(product, np.array([1, 2]), False)], [given]), precision)
    values = random.standard_normal((1, rows, inputs)).astype(np.float32)
    return 2 * rows * inputs * outputs / min(seconds(lambda: request.infer([values])) for _ in range(12))


def seconds(work: Any) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", default="cranfield", help="a collection below $DIPTYCH_DATA")
    parser.add_argument("--documents", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(cores())
    measure(options).write(options.json)


if __name__ == "__main__":
    main()
