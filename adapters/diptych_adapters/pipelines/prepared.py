"""Facts recorded when a library loaded a model: enough to run its converted graph without that library.

Loading a model with sentence-transformers takes seconds, most of them for importing it, transformers and torch.
OpenVINO and ONNX Runtime need none of them, and torch runs a list of operators without the other two: the graph is in
the user's cache, and the package `tokenizers` runs a fast tokenizer. Everything else that decides the vectors was read
from the library once. It is valid until a model file, a library or an option changes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from typing import Any, Self

import diptych
from diptych.runtime.passed_checks import recalled, remember, stamps
from diptych_adapters.engines import onnx_graph, openvino_graph, processor
from diptych_adapters.engines.backend import int8_key
from diptych_adapters.engines.batches import TokenizerData, Tokens
from diptych_adapters.engines.runner import Graph, Inputs, Runner
from diptych_adapters.model_options import TorchOptions
from diptych_adapters.models import ModelFolder
from diptych_adapters.pipelines import fingerprints

EDITION = 1  # of what is kept
FILES = 2000  # of a folder; one with more is no model's alone
PACKAGES = ("torch", "transformers", "sentence-transformers", "tokenizers", "numpy", "openvino", "onnxruntime", "onnx")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A model that has run before, with all facts needed to run it again.

    Args:
        backend: openvino, onnx or torch, whose converted model is in the cache.
        key: under which it is kept there.
        tokenizer: the model's.
        max_length: tokens that are read of a text, None for all.
        typed: the graph also takes token type ids.
        digests: of weights, tokenizer and the weights for documents.
        steps: from token vectors to the result, as fingerprints name them.
        facts: what the adapter read from the library.
    """

    backend: str
    key: str
    tokenizer: TokenizerData
    max_length: int | None
    typed: bool
    digests: fingerprints.Digests
    steps: Sequence[str]
    facts: Mapping[str, Any]

    @classmethod
    def recalled(cls, subject: str, state: object) -> Self | None:
        """The stored facts about a model in this state; None if there are none."""
        stored = recalled("models", subject, state) if state is not None else None
        if not isinstance(stored, dict):
            return None
        try:
            exact = {
                "tokenizer": TokenizerData(**stored["tokenizer"]),
                "digests": fingerprints.Digests(*stored["digests"]),
            }
            return cls(**{**stored, **exact})
        except (KeyError, TypeError):
            return None

    def remember(self, subject: str, state: object) -> None:
        """Store the facts for later processes."""
        remember("models", subject, state, asdict(self))

    def runner(
        self,
        options: TorchOptions,
        head: Callable[[Graph], Graph] = lambda graph: graph,
        make: Callable[[], bytes] | None = None,
    ) -> Runner | None:
        """The runner of the model; None if its converted model is not cached.

        Args:
            options: of the adapter.
            head: what follows the converted model.
            make: makes an ONNX model that is converted where the cache has none.
        """
        precision = options.precision or "float32"
        processor.warn_if_slower(precision)
        graph = self._graph(self.key, processor.beside_int8() if precision == "int8" else precision, make)
        return self._runner_of(graph, options, head)

    def int8_runner(self, texts: Inputs, trial: Inputs, options: TorchOptions) -> Runner | None:
        """The runner of the model in int8, with ranges measured on these texts; None if it is not cached."""
        tokens = Tokens(self.tokenizer, self.max_length, typed=self.typed)
        return self._runner_of(self._graph(int8_key(self.key, tokens, texts, trial), "int8"), options)

    def _runner_of(
        self, graph: Graph | None, options: TorchOptions, head: Callable[[Graph], Graph] = lambda graph: graph
    ) -> Runner | None:
        if graph is None:
            return None
        return Runner(
            Tokens(self.tokenizer, self.max_length, typed=self.typed), head(graph), max_rows=options.batch_size
        )

    def _graph(self, key: str, precision: str, make: Callable[[], bytes] | None = None) -> Graph | None:
        if self.backend == "torch":
            return _program(key)
        if self.backend == "onnx":
            file = onnx_graph.cached_or_made(key, make) if make else onnx_graph.cached(key)
            return onnx_graph.OnnxGraph(file, precision=precision) if file else None
        model = (
            openvino_graph.cached_or_made(key, partial(openvino_graph.from_onnx, make))
            if make
            else openvino_graph.cached(key)
        )
        return None if model is None else openvino_graph.OpenVinoGraph(model, precision=precision)


def _program(key: str) -> Graph | None:
    """Torch's program; None if it is no longer cached, or damaged."""
    processor.import_torch()
    from safetensors import SafetensorError

    from diptych_adapters.engines import torch_export

    file = torch_export.cached_list(key)
    try:
        return torch_export.TorchProgram.read(file) if file else None
    except (OSError, ValueError, LookupError, AttributeError, SafetensorError):
        return None


def subject_of(kind: str, folder: ModelFolder, options: TorchOptions) -> str:
    """The key that distinguishes adapters of a model."""
    return json.dumps([kind, str(folder.path), options.model_dump(mode="json"), sorted(options.model_fields_set)])


def state_of(folder: ModelFolder, options: TorchOptions) -> object:
    """Everything besides its options that decides a model's vectors: files, libraries and the machine.

    None if that is unknown: the model has its own code, or a file changed a moment ago.
    """
    if options.trust_remote_code:
        return None
    files = {file for file in folder.path.rglob("*") if file.is_file()}
    files |= {file for part in folder.module_folders() for file in part.glob("*") if file.is_file()}
    marks = stamps(files) if len(files) <= FILES else None
    return None if marks is None else [EDITION, diptych.__version__, _versions(), processor.machine(), marks]


def identity_of(*facts: object) -> str:
    """One string that stands for these facts."""
    return hashlib.sha256(json.dumps(facts, default=str).encode()).hexdigest()


@cache
def _versions() -> tuple[str, ...]:
    return tuple(map(processor.version_of, PACKAGES))
