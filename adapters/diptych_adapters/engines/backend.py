"""`runner_for`: chooses what runs a part of a model, and checks that it answers like the library."""

from __future__ import annotations

import platform
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from diptych.runtime.passed_checks import recalled as recalled_check
from diptych.runtime.passed_checks import remember as remember_check
from diptych.types import Floats
from diptych_adapters.engines import int8, onnx_graph, openvino_graph, processor
from diptych_adapters.engines.calibration_texts import GENERAL
from diptych_adapters.engines.model_cache import recalled, remember
from diptych_adapters.engines.runner import Graph, Inputs, Runner
from diptych_adapters.engines.tokens import Row, Tokens
from diptych_adapters.model_options import TorchOptions
from diptych_adapters.models import ModelError

if TYPE_CHECKING:
    import torch

# Least likeness to the library's own answers, by precision; a lossy one is never taken unless it is asked for.
SAME = {"float32": 0.99999, "float16": 0.999, "bfloat16": 0.99, "int8": 0.97}
TRIAL = ("a", "Straße, naïve café; жаркое лето, 東京の天気", "a sentence of a longer text, told again and again. " * 60)
PAIRS = tuple((text[:40], text) for text in TRIAL)
SPEED = ["a sentence of a longer text that is encoded to see how fast it goes. " * n for n in (2, 4, 6, 8)] * 4
AUTO = ("torch", "openvino", "onnx")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A part of a model that is to be run.

    Args:
        whole: the part.
        tokens: makes its ids.
        options: backend and precision.
        key: tells parts apart; under it a converted model is kept.
        numerics: of the torch model.
        library: the library's own answers to `trial`.
        trial: texts or pairs that the part must answer as the library does.
        head: what follows the part, whatever runs it.
        typed: the part reads types of tokens, too.
        by_token: it answers for each token, not for each row.
        file: an exported model that is run instead.
        rest: with a file that answers for each token, the modules that make the part's answer of it.
        state: of the model's files and of the libraries; a likeness that was found in it holds. None: none is kept.
    """

    whole: torch.nn.Module
    tokens: Tokens
    options: TorchOptions
    key: str
    numerics: str
    library: Callable[[], Iterable[Floats]]
    trial: Inputs = TRIAL
    head: Callable[[Graph], Graph] = lambda graph: graph
    typed: bool = False
    by_token: bool = False
    file: Path | None = None
    rest: Sequence[torch.nn.Module] = ()
    state: object = None

    def runner(self, graph: Graph) -> Runner:
        """A runner of the part's graph."""
        return Runner(self.tokens, self.head(graph), most=self.options.batch_size)


def runner_for(job: Job, texts: Inputs = ()) -> Runner | None:
    """The runner of the backend in the options; None if the library itself must run the model.

    Args:
        job: what is to be run.
        texts: with precision int8, those on which ranges are measured; without them nothing is quantized yet.

    Raises:
        ModelError: the configured backend cannot run the part, or its answers differ from the library's.
        MissingExtra: it is not installed.
    """
    if _on_cpu(job):
        processor.warn_if_slower(job.options.precision or "float32")
    if job.options.backend == "auto":
        return _fastest(job)
    made = job.runner(graph_of(job, job.options.backend, texts))
    found = _known_likeness(made, job, texts)
    if found >= least(made):
        return made
    if job.options.backend != "torch":
        raise unfit(job.options, f"answers with a likeness (cosine) of {found:.5f} to those of torch")
    return None


def graph_of(job: Job, backend: str, texts: Inputs = ()) -> Graph:
    """The part as run by a backend."""
    precision = job.options.precision or "float32"
    if job.file is not None:
        from diptych_adapters.engines.torch_graph import Finished

        return Finished(_of_file(backend, job.file), job.rest)
    if backend == "openvino":
        return _openvino(job, precision, texts)
    if backend == "onnx":
        model = onnx_graph.exported(job.key, job.whole, typed=job.typed, by_token=job.by_token)
        return onnx_graph.OnnxGraph(model, precision="float32")
    from diptych_adapters.engines.torch_graph import TorchGraph

    return TorchGraph(job.whole, job.numerics, compiled=job.options.compiled)


def _known_likeness(made: Runner, job: Job, texts: Inputs) -> float:
    """The likeness of a runner as measured earlier, if nothing has changed since."""
    if job.state is None or job.file is not None:
        return likeness(made, job)
    subject = f"{job.key} {made.graph.numerics} {int8_key(job.key, job.tokens, texts, job.trial) if texts else ''}"
    known = recalled_check("likeness", subject, job.state)
    if isinstance(known, float):
        return known
    found = likeness(made, job)
    remember_check("likeness", subject, job.state, found)
    return found


def likeness(made: Runner, job: Job) -> float:
    """How alike the runner's answers to the trial are to the library's, 1 for equal; see `alike`."""
    ours = made.each(job.trial, lambda answer, row: answer[: row.shape[1]].copy() if job.by_token else answer.copy())
    return float(np.min([alike(now, then) for now, then in zip(ours, job.library(), strict=True)]))


def alike(now: Floats, then: Floats) -> float:
    """The lowest cosine over rows; for single numbers 1 - e**2 / 2 with the relative error e, which is a cosine too."""
    if now.size == 1:
        error = float(np.abs(now - then).max() / (1 + np.abs(then).max()))
        return 1 - error**2 / 2
    now, then = np.atleast_2d(now), np.atleast_2d(then)
    if now.shape != then.shape:
        return -1.0
    lengths = np.linalg.norm(now, axis=1) * np.linalg.norm(then, axis=1)
    both_zero = ~(now.any(axis=1) | then.any(axis=1))
    return float(np.where(both_zero, 1.0, (now * then).sum(axis=1) / np.maximum(lengths, 1e-12)).min())


def least(made: Runner) -> float:
    """The likeness that a runner must reach, given the precision that it really uses."""
    return SAME.get(made.graph.numerics.split()[1], SAME["int8"])


def unfit(options: TorchOptions, got: str) -> ModelError:
    """The error for a backend that cannot run a model."""
    lossy = options.precision == "int8"
    return ModelError(
        f"backend {options.backend!r} cannot run model {options.model!r}{' in int8' if lossy else ''}",
        got=got,
        do="use precision: bfloat16" if lossy else "use backend: torch",
    )


def _on_cpu(job: Job) -> bool:
    return next(job.whole.parameters()).device.type == "cpu"


def _openvino(job: Job, precision: str, texts: Inputs) -> Graph:
    def plain() -> Any:
        return openvino_graph.kept(job.key, lambda: openvino_graph.converted(job.whole, typed=job.typed))

    if precision != "int8":
        return openvino_graph.OpenVinoGraph(plain(), precision=precision)
    if not texts:
        return openvino_graph.OpenVinoGraph(plain(), precision=processor.beside_int8())
    key, rows = int8_key(job.key, job.tokens, texts, job.trial), _measured_on(job.tokens, texts, job.trial)
    model = openvino_graph.kept(key, lambda: int8.quantized(plain(), rows, job.tokens.pad, scores=_in_int8()))
    return openvino_graph.OpenVinoGraph(model, precision="int8")


def int8_key(key: str, tokens: Tokens, texts: Inputs, trial: Inputs) -> str:
    """The cache key of a model in int8: that of the model itself and of the texts used for the ranges."""
    return f"{key} int8{' scores' * _in_int8()} {[row.tolist() for row in _measured_on(tokens, texts, trial)]}"


def _measured_on(tokens: Tokens, texts: Inputs, trial: Inputs) -> list[Row]:
    return tokens.rows([*texts, *trial, *(GENERAL if isinstance(trial[0], str) else ())])


def _in_int8() -> bool:
    """Whether attention scores are computed in int8: where bfloat16 is fast, it loses less."""
    return processor.beside_int8() == "float32"


def _of_file(backend: str, file: Path) -> Graph:
    if backend == "onnx":
        return onnx_graph.OnnxGraph(file, precision=file.stem)
    model = openvino_graph.openvino().Core().read_model(file)
    openvino_graph.with_finite_masks(model)
    return openvino_graph.OpenVinoGraph(model, precision="float32", name=file.stem)


def _fastest(job: Job) -> Runner | None:
    """The fastest installed backend that answers like the library; measured once, and remembered."""
    on_cpu = _on_cpu(job)
    backends = AUTO if on_cpu else AUTO[:1]
    installed = [name for name in backends if processor.have(*_PACKAGES[name])]
    versions = [version(_PACKAGES[name][0]) for name in installed]
    key = f"{job.key} {openvino_graph.EDITION} {versions} {platform.processor()} {processor.threads()}"
    known = recalled("auto", key)
    if known in installed and (made := _fit(job, known)) is not None:
        return made
    fit = {name: made for name in installed if (made := _fit(job, name)) is not None}
    if len(fit) < 2:
        return next(iter(fit.values()), None)
    chosen = min(fit, key=lambda name: _seconds(fit[name], job))
    remember("auto", key, chosen)
    return fit[chosen]


def _fit(job: Job, backend: str) -> Runner | None:
    """The runner of a backend, if it can run the part and answers like the library."""
    try:
        made = job.runner(graph_of(job, backend))
        return made if likeness(made, job) >= least(made) else None
    except Exception as error:  # each backend's converter raises its own
        what = f"backend auto leaves out {backend}, which cannot run model {job.options.model!r}"
        warnings.warn(f"{what}: {type(error).__name__}: {error}", stacklevel=2)
        return None


_PACKAGES = {"torch": ("torch",), "openvino": ("openvino",), "onnx": ("onnxruntime", "onnx")}


def _seconds(made: Runner, job: Job) -> float:
    """The shorter of two timed runs over some texts, after a warm-up."""
    inputs: Inputs = SPEED if isinstance(job.trial[0], str) else [(text[:40], text) for text in SPEED]
    taken = []
    for _ in range(3):
        begin = time.perf_counter()
        made.each(inputs, lambda answer, row: None)
        taken.append(time.perf_counter() - begin)
    return min(taken[1:])
