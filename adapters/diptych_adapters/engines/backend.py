"""`runner_for`: chooses what runs a part of a model, and checks that it answers like the library."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from diptych.runtime.passed_checks import recalled as recalled_check
from diptych.runtime.passed_checks import remember as remember_check
from diptych.types import Floats
from diptych_adapters.engines import int8, onnx_graph, openvino_graph, processor
from diptych_adapters.engines.batches import Graph, Inputs, Runner, Tokens
from diptych_adapters.model_options import TorchOptions
from diptych_adapters.models import ModelError

if TYPE_CHECKING:
    import torch


# Least likeness to the library's own answers, by precision. A lossy precision runs only if it is configured.
SAME = {"float32": 0.99999, "float16": 0.999, "bfloat16": 0.99, "int8": 0.97}
TRIAL = ("a", "Straße, naïve café; жаркое лето, 東京の天気", "a sentence of a longer text, told again and again. " * 60)
PAIRS = tuple((text[:40], text) for text in TRIAL)
AUTO = ("openvino", "onnx", "torch")  # the fastest first, as measured on CPUs; on a GPU torch alone
_PACKAGES = {"torch": ("torch",), "openvino": ("openvino",), "onnx": ("onnxruntime", "onnx")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A part of a model that is to be run.

    Args:
        module: the part.
        tokens: makes its token ids.
        options: backend and precision.
        key: identifies the part; the cache key of its converted model.
        numerics: backend, precision and device of the torch model.
        library: the library's own answers to `trial`.
        trial: texts or pairs that the part must answer as the library does.
        ranges: those on which the ranges of precision int8 are measured.
        head: adds the steps that follow the part, for every backend.
        typed: the part also takes token type ids.
        by_token: it gives a vector for each token, not for each row.
        state: of the model's files and libraries; a likeness measured in it is reused. None: it is measured each time.
    """

    module: torch.nn.Module
    tokens: Tokens
    options: TorchOptions
    key: str
    numerics: str
    library: Callable[[], Iterable[Floats]]
    trial: Inputs = TRIAL
    ranges: Inputs = (*TRIAL, *int8.GENERAL)
    head: Callable[[Graph], Graph] = lambda graph: graph
    typed: bool = False
    by_token: bool = False
    state: object = None

    def runner(self, graph: Graph) -> Runner:
        """A runner of the part's graph."""
        return Runner(self.tokens, self.head(graph), max_rows=self.options.batch_size)


def runner_for(job: Job) -> Runner | None:
    """The runner of the backend in the options; None if the library itself must run the model.

    Raises:
        ModelError: the configured backend cannot run the part, or its answers differ from the library's.
        MissingExtra: the backend is not installed.
    """
    if _on_cpu(job):
        processor.warn_if_slower(job.options.precision or "float32")
    if job.options.backend == "auto":
        installed = [name for name in (AUTO if _on_cpu(job) else AUTO[-1:]) if processor.have(*_PACKAGES[name])]
        return next((runner for name in installed if (runner := _fitting_runner(job, name)) is not None), None)
    runner = job.runner(graph_of(job, job.options.backend))
    score = _known_likeness(runner, job)
    if score >= least_likeness(runner):
        return runner
    if job.options.backend != "torch":
        raise unfit(job.options, f"answers with a likeness (cosine) of {score:.5f} to those of torch")
    return None


def graph_of(job: Job, backend: str) -> Graph:
    """The part as run by a backend."""
    precision = job.options.precision or "float32"
    if backend == "openvino":
        return _openvino(job, precision)
    if backend == "onnx":
        export = partial(onnx_graph.exported, job.module, typed=job.typed, by_token=job.by_token)
        model = onnx_graph.cached_or_made(job.key, export)
        assert model is not None, "it was made"
        return onnx_graph.OnnxGraph(model)
    from diptych_adapters.engines.torch_graph import TorchGraph

    return TorchGraph(job.module, job.numerics, compiled=job.options.compiled)


def _known_likeness(runner: Runner, job: Job) -> float:
    """The likeness of a runner as measured earlier, if nothing has changed since."""
    if job.state is None:
        return likeness(runner, job)
    subject = f"{job.key} {runner.graph.numerics}"
    stored = recalled_check("likeness", subject, job.state)
    if isinstance(stored, float):
        return stored
    score = likeness(runner, job)
    remember_check("likeness", subject, job.state, score)
    return score


def likeness(runner: Runner, job: Job) -> float:
    """How alike the runner's answers to the trial are to the library's, 1 for equal; see `alike`."""
    answers = runner.each(
        job.trial, lambda answer, row: answer[: row.shape[1]].copy() if job.by_token else answer.copy()
    )
    return float(np.min([alike(vectors, expected) for vectors, expected in zip(answers, job.library(), strict=True)]))


def alike(answer: Floats, expected: Floats) -> float:
    """The lowest cosine over rows; for single numbers 1 - e**2 / 2 with the relative error e, which is a cosine too."""
    if answer.size == 1:
        error = float(np.abs(answer - expected).max() / (1 + np.abs(expected).max()))
        return 1 - error**2 / 2
    answer, expected = np.atleast_2d(answer), np.atleast_2d(expected)
    if answer.shape != expected.shape:
        return -1.0
    lengths = np.linalg.norm(answer, axis=1) * np.linalg.norm(expected, axis=1)
    both_zero = ~(answer.any(axis=1) | expected.any(axis=1))
    return float(np.where(both_zero, 1.0, (answer * expected).sum(axis=1) / np.maximum(lengths, 1e-12)).min())


def least_likeness(runner: Runner) -> float:
    """The likeness that a runner must reach, given the precision that it really uses."""
    return SAME.get(runner.graph.numerics.split()[1], SAME["int8"])


def unfit(options: TorchOptions, got: str) -> ModelError:
    """The error for a backend that cannot run a model."""
    lossy = options.precision == "int8"
    return ModelError(
        f"backend {options.backend!r} cannot run model {options.model!r}{' in int8' if lossy else ''}",
        got=got,
        do="use precision: bfloat16" if lossy else "use backend: torch",
    )


def _on_cpu(job: Job) -> bool:
    return next(job.module.parameters()).device.type == "cpu"


def _openvino(job: Job, precision: str) -> Graph:
    def plain() -> Any:
        return openvino_graph.cached_or_made(job.key, lambda: openvino_graph.converted(job.module, typed=job.typed))

    if precision != "int8":
        return openvino_graph.OpenVinoGraph(plain(), precision=precision)

    def quantized() -> Any:
        return int8.quantized(plain(), job.tokens.rows(job.ranges), job.tokens.pad)

    model = openvino_graph.cached_or_made(int8_key(job.key, job.tokens, job.ranges), quantized)
    return openvino_graph.OpenVinoGraph(model, precision="int8")


def int8_key(key: str, tokens: Tokens, ranges: Inputs) -> str:
    """The cache key of a model in int8: that of the model itself and of the inputs used for the ranges."""
    return f"{key} int8 {[row.tolist() for row in tokens.rows(ranges)]}"


def _fitting_runner(job: Job, backend: str) -> Runner | None:
    """The runner of a backend, if it can run the part and answers like the library."""
    try:
        runner = job.runner(graph_of(job, backend))
        return runner if likeness(runner, job) >= least_likeness(runner) else None
    except Exception as error:  # each backend's converter raises its own
        what = f"backend auto leaves out {backend}, which cannot run model {job.options.model!r}"
        warnings.warn(f"{what}: {type(error).__name__}: {error}", stacklevel=2)
        return None
