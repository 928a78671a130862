"""`ModelPipeline`: a sentence-transformers model behind an adapter, with its fingerprint.

Neither torch nor sentence-transformers is imported before a model is loaded, and a model that OpenVINO or ONNX Runtime
has run before need not be loaded; see `prepared`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from diptych.protocols import Fingerprint
from diptych.runtime.passed_checks import recalled, remember
from diptych.types import Floats
from diptych_adapters.engines.backend import TRIAL, Job, runner_for, unfit
from diptych_adapters.engines.batches import Graph, Inputs, Runner, Tokens
from diptych_adapters.engines.workers import spread
from diptych_adapters.model_options import TorchOptions
from diptych_adapters.models import ModelError, ModelFolder
from diptych_adapters.pipelines import fingerprints
from diptych_adapters.pipelines.fingerprints import pipeline_steps
from diptych_adapters.pipelines.library import limit_length, numerics

if TYPE_CHECKING:
    import torch
import hashlib
import json
from abc import abstractmethod
from dataclasses import asdict, dataclass
from functools import cache, cached_property, partial
from typing import Generic, Literal, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

import diptych
from diptych.runtime.passed_checks import stamps
from diptych_adapters.engines import onnx_graph, openvino_graph, processor
from diptych_adapters.engines.backend import int8_key
from diptych_adapters.engines.batches import DocumentTokens, TokenizerData
from diptych_adapters.engines.int8 import GENERAL

EDITION = 1  # of what is kept
FILES = 2000  # of a folder; one with more is no model's alone
PACKAGES = ("torch", "transformers", "sentence-transformers", "tokenizers", "numpy", "openvino", "onnxruntime", "onnx")

Task: TypeAlias = Literal["query", "document"]
V = TypeVar("V")

NO_LIMIT = 10**9  # tokenizers without a limit say a number far above this one


class ModelPipeline:
    """A sentence-transformers model behind an adapter: folder, options, runner, and a lock.

    The lock is for the library's own path: a fast tokenizer holds its padding and truncation settings for the call.

    Args:
        folder: of the model.
        load: the library's model, ready to encode.
        options: of the adapter.
    """

    options_model: ClassVar[type[TorchOptions]]
    trial: ClassVar[Inputs] = TRIAL  # inputs on which a graph must agree with the library
    ranges: ClassVar[Inputs] = (*TRIAL, *GENERAL)  # on which the ranges of int8 are measured

    def __init__(self, folder: ModelFolder, load: Callable[[], Any], options: TorchOptions) -> None:
        self.name = folder.name
        self.runner: Runner | None = None
        self._options, self._folder, self._load_model = options, folder, load
        self._model: Any = None
        self._job: Job | None = None
        self._lock, self._model_lock = threading.Lock(), threading.RLock()
        self._subject, self._state = subject_of(type(self).__name__, folder, options), state_of(folder, options)
        self._prepared = Prepared.recalled(self._subject, self._state)
        self._convert: Callable[[], bytes] | None = None  # makes the graph from the files alone
        parts = (folder.module_folders(), folder.module_folders(of_documents=True))
        self._digests = self._prepared.digests if self._prepared else fingerprints.digests(*parts)

    @property
    def model(self) -> Any:
        """The library's model, loaded when first needed."""
        with self._model_lock:
            if self._model is None:
                model = self._load_model()
                limit_length(model, self._options.max_length, self.name)
                self._model = model
            return self._model

    @classmethod
    def of(cls, **options: Any) -> Self:
        """The adapter from its options as keywords, as a config file gives them; on several devices a `Spread`."""
        parsed: Any = cls.options_model(**options)

        def on_device(device: str | None) -> ModelPipeline:
            return cls(parsed.model_copy(update={"device": device}))  # type: ignore[call-arg]

        name = f"{cls.__module__}:{cls.__qualname__}"
        return spread(name, on_device, options, parsed.device, parsed.processes)  # type: ignore[no-any-return]

    @property
    def max_length(self) -> int | None:
        """Tokens that the model reads of an input, None for all."""
        if self._prepared is not None:
            return self._prepared.max_length
        length = getattr(self.model, "max_seq_length", None)
        return None if length is None or length > NO_LIMIT else int(length)

    def fingerprint_of(
        self, steps: list[str], prompts: tuple[str, str], dimension: int, *, pooled: bool = True
    ) -> Fingerprint:
        """The fingerprint of this pipeline: `steps` come after the model's own, which count when `pooled`."""
        return fingerprints.fingerprint(
            weights=self._digests.weights,
            tokenizer=self._digests.tokenizer,
            pooling=[*(self.steps if pooled else ()), *steps],
            prompts=prompts,
            max_length=self.max_length,
            dimension=dimension,
            numerics=self.numerics,
            document_weights=self._digests.documents,
        )

    @property
    def steps(self) -> list[str]:
        """The steps after the transformer; see `pipeline_steps`."""
        return list(self._prepared.steps) if self._prepared is not None else pipeline_steps(self.model)

    @property
    def identity(self) -> str:
        """A digest of everything that decides the vectors, libraries and machine included; "" if unknown."""
        if self._state is None:
            return ""
        return identity_of(self._subject, self._state, self.numerics)

    @property
    def numerics(self) -> str:
        """Backend, precision and device."""
        return self.runner.graph.numerics if self.runner else numerics(self.model)

    def _facts(self, read: Callable[[], dict[str, Any]]) -> Mapping[str, Any]:
        """The facts about the library's model that the adapter needs, as JSON values; cached ones if still valid."""
        if self._prepared is None:
            self._library_facts = read()
            return self._library_facts
        return self._prepared.facts

    def _start(self) -> None:
        """Start the runner: a known converted graph, else from the library's model.

        Raises:
            ModelError: another backend than torch is asked for and cannot run it.
        """
        head = self._head() if self._prepared is not None else None
        if self._prepared is not None and head is not None:
            runner = self._prepared.runner(self._options, head, self._convert, self.ranges)
            if runner is not None:
                return self._take(runner)
        self._run_library()
        return self._remember()

    def _head(self) -> Callable[[Graph], Graph] | None:
        """The modules after the converted model if the library is not loaded; None if they are not cached."""
        return lambda graph: graph

    def _cache_head(self, sources: Sequence[Path]) -> None:
        """Cache what `_head` needs for later processes, by reference into the model's files `sources` if possible."""

    def _run_library(self) -> None:
        """Let the configured backend run the library's model (`_run_by`); does nothing if that is done."""

    def _remember(self) -> None:
        """Cache what was learnt for later processes, unless something has changed meanwhile."""
        job, runner = self._job, self.runner
        backend = runner.graph.numerics.split()[0] if runner is not None else ""
        if job is None or runner is None or self._state is None:
            return
        if backend not in ("openvino", "onnx") and not self._cache_program(job, runner):
            return
        prepared = Prepared(
            backend=backend,
            key=job.key,
            tokenizer=job.tokens.data,
            max_length=self.max_length,
            typed=job.typed,
            digests=self._digests,
            steps=self.steps,
            facts=self._library_facts if self._prepared is None else self._prepared.facts,
        )
        if state_of(self._folder, self._options) == self._state:
            self._cache_head(self._weight_files())
            prepared.remember(self._subject, self._state)

    def _cache_program(self, job: Job, runner: Runner) -> bool:
        """Cache torch's operators as a list when a model is loaded for the second time.

        Listing takes seconds, which a model that is loaded once would never repay.
        """
        from diptych_adapters.engines.torch_graph import TorchGraph

        graph = getattr(runner.graph, "body", runner.graph)
        if not isinstance(graph, TorchGraph) or job.options.compiled or not job.numerics.endswith(" cpu"):
            return False
        loads = recalled("loaded", self._subject, self._state)
        if loads != "once":
            if loads is None:
                remember("loaded", self._subject, self._state, "once")
            return False
        from diptych_adapters.engines import torch_export

        cached = torch_export.cache_program(job, self._weight_files())
        if not cached:  # nor would it be at the next time
            remember("loaded", self._subject, self._state, "by its library")
        return cached

    def _weight_files(self) -> list[Path]:
        return [file for part in self._folder.module_folders() for file in sorted(part.glob("*.safetensors"))]

    @property
    def _cache_key(self) -> str:
        """The cache key of the converted model."""
        return self._job.key if self._job is not None else self._prepared.key if self._prepared is not None else ""

    def _run_by(self, module: torch.nn.Module | None, library: Callable[[], Iterable[Floats]], **more: Any) -> None:
        """Let the configured backend run `module`, if available; see `engines.backend.Job`.

        Raises:
            ModelError: another backend than torch is asked for and cannot run it.
        """
        if module is None or self._options.attention == "flash_attention_2":  # the library then pads nothing
            self._by_library_alone()
        else:
            # A key that identifies converted models: everything that decides their answers.
            code = sorted(self._folder.path.glob("*.py")) if self._options.trust_remote_code else []
            files = [file for file in (self._folder.path / "config.json", *code) if file.is_file()]
            parts = [self._digests.weights, self._digests.tokenizer, type(self).__name__, *self.steps]
            parts += [*map(fingerprints.file_sha256, files), str(self.max_length), version("transformers")]
            self._job = Job(
                module=module,
                tokens=Tokens(self.model.tokenizer, self.max_length, typed=bool(more.get("typed"))),
                options=self._options,
                key=" ".join(parts),
                numerics=numerics(self.model),
                library=library,
                state=self._state,
                trial=self.trial,
                ranges=self.ranges,
                **more,
            )
            self._take(runner_for(self._job))

    def _by_library_alone(self) -> None:
        """Leave the model to the library, unless the options require an engine.

        Raises:
            ModelError: they do.
        """
        options = self._options
        if options.backend not in ("torch", "auto"):
            raise unfit(options, "a pipeline of other parts than it can be given")
        if options.compiled:
            what = f"model {self.name!r} is run by its library, which does not compile it"
            raise ModelError(what, where="option compiled", do="leave the option out")

    def _take(self, runner: Runner | None) -> None:
        self.runner = runner


class EncoderPipeline(ModelPipeline, Generic[V]):
    """A `ModelPipeline` with both sides of an encoder, whose vectors are `V`, and `diptych.protocols.TokenLimit`."""

    _prompts: tuple[str, str]  # of queries and documents

    def encode_query(self, inputs: Sequence[str]) -> V:
        """The queries' vectors, as the class says."""
        return self._encode(inputs, self._prompts[0], "query")

    def encode_document(self, inputs: Sequence[str]) -> V:
        """The documents' vectors, as the class says."""
        return self._encode(inputs, self._prompts[1], "document")

    @abstractmethod
    def _encode(self, inputs: Sequence[str], prompt: str, task: Task) -> V: ...

    def _library_encode(self, task: Task) -> Any:
        """The library's method."""
        return self.model.encode_query if task == "query" else self.model.encode_document

    @property
    def max_tokens(self) -> int | None:
        """Tokens of a document that the model reads, without special tokens and prompt; None for all."""
        tokens, max_length = self._document_reading
        return None if tokens is None else tokens.room(max_length)

    def token_spans(self, inputs: Sequence[str]) -> list[NDArray[np.int32]]:
        """Where the tokens of each document are, nothing cut: int32 `[tokens_i, 2]`, begin and end in characters.

        Raises:
            ModelError: the model's tokenizer cannot tell.
        """
        tokens, _ = self._document_reading
        if tokens is None:
            raise ModelError(
                f"the tokenizer of model {self.name!r} does not report token positions",
                where=self._folder.path,
                expected="a fast tokenizer, saved as tokenizer.json",
                do="save the model with a fast tokenizer",
            )
        return tokens.spans(inputs)

    @cached_property
    def _document_reading(self) -> tuple[DocumentTokens | None, int | None]:
        """The tokens of documents, None without a fast tokenizer, and the most that is read, special ones included."""
        if self._model is None and self.runner is not None:
            tokens = self.runner.tokens
            return DocumentTokens(tokens.data.text, self._prompts[1]), tokens.max_length
        # The module of a sentence-transformers pipeline that reads documents: its first, or the first of their route.
        first = next(iter(self.model.children()))
        routes = getattr(first, "sub_modules", {})
        module = next(iter(routes["document"])) if "document" in routes else first
        length = getattr(module, "document_length", None) or getattr(module, "max_seq_length", None)
        tokenizer: Any = getattr(module, "tokenizer", None)
        fast: Any = getattr(tokenizer, "backend_tokenizer", tokenizer)  # a static embedding's is one itself
        if not hasattr(fast, "to_str"):
            return None, None
        return DocumentTokens(fast.to_str(), self._prompts[1]), None if length is None or length > NO_LIMIT else length


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
        ranges: Inputs = (),
    ) -> Runner | None:
        """The runner of the model; None if its converted model is not cached.

        Args:
            options: of the adapter.
            head: what follows the converted model.
            make: makes an ONNX model that is converted where the cache has none.
            ranges: inputs on which the ranges of int8 were measured.
        """
        precision = options.precision or "float32"
        processor.warn_if_slower(precision)
        tokens = Tokens(self.tokenizer, self.max_length, typed=self.typed)
        if precision == "int8":
            graph = self._graph(int8_key(self.key, tokens, ranges), precision)
        else:
            graph = self._graph(self.key, precision, make)
        return None if graph is None else Runner(tokens, head(graph), max_rows=options.batch_size)

    def _graph(self, key: str, precision: str, make: Callable[[], bytes] | None = None) -> Graph | None:
        if self.backend == "torch":
            return _program(key)
        if self.backend == "onnx":
            file = onnx_graph.cached_or_made(key, make)
            return onnx_graph.OnnxGraph(file) if file else None

        def from_onnx(make: Callable[[], bytes]) -> Any:
            return openvino_graph.openvino().Core().read_model(make())

        model = openvino_graph.cached_or_made(key, partial(from_onnx, make) if make else None)
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
