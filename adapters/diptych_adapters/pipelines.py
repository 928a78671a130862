"""Loads sentence-transformers pipelines and tells what decides their vectors. Imports torch: import it lazily."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
import transformers

from diptych.protocols import Fingerprint
from diptych.types import Floats
from diptych_adapters import fingerprints
from diptych_adapters.engines.choosing import Job, runner_for, unfit
from diptych_adapters.engines.runner import Inputs, Runner
from diptych_adapters.engines.tokens import Tokens
from diptych_adapters.engines.workers import spread
from diptych_adapters.model_options import PromptOptions, TorchOptions
from diptych_adapters.models import HUB_PATTERNS, ModelError, ModelFolder, check_safe, resolve
from diptych_adapters.pipeline_steps import pipeline_steps
from diptych_adapters.quiet import quiet

_loading = threading.Lock()
_NO_LIMIT = 10**9  # tokenizers without a limit say a number far above this one


SAMPLE = 128  # texts of the collection on which the ranges of int8 are measured


class Pipeline:
    """A sentence-transformers model behind an adapter: its folder, its options, what runs it, and a lock.

    The lock is for the library's own path: a fast tokenizer holds its padding and truncation settings for the call.
    """

    options_model: ClassVar[type[TorchOptions]]

    def __init__(self, folder: ModelFolder, model: Any, options: TorchOptions) -> None:
        self.name = folder.name
        self.model = model
        self.runner: Runner | None = None
        self._options, self._folder = options, folder
        self._job: Job | None = None
        self._seen: list[object] = []
        self._lock = threading.Lock()
        self._digests = fingerprints.digests(folder.module_folders(), folder.module_folders(of_documents=True))
        _limit_length(model, options.max_length, self.name)

    @classmethod
    def of(cls, **options: Any) -> Self:
        """The adapter from its options as keywords, as a config file gives them; on several devices a `Spread`."""
        wanted: Any = cls.options_model(**options)

        def on(device: str | None) -> Pipeline:
            return cls(wanted.model_copy(update={"device": device}))  # type: ignore[call-arg]

        name = f"{cls.__module__}:{cls.__qualname__}"
        return spread(name, on, options, wanted.device, wanted.processes)  # type: ignore[no-any-return]

    @property
    def max_length(self) -> int | None:
        """Tokens that are read of an input, None for all."""
        length = getattr(self.model, "max_seq_length", None)
        return None if length is None or length > _NO_LIMIT else int(length)

    def fingerprint_of(
        self, steps: list[str], prompts: tuple[str, str], dimension: int, *, pooled: bool = True
    ) -> Fingerprint:
        """The fingerprint of this pipeline: `steps` come after the model's own, which count when `pooled`."""
        return fingerprints.fingerprint(
            weights=self._digests.weights,
            tokenizer=self._digests.tokenizer,
            pooling=[*(pipeline_steps(self.model) if pooled else ()), *steps],
            prompts=prompts,
            max_length=self.max_length,
            dimension=dimension,
            numerics=self.numerics,
            document_weights=self._digests.documents,
        )

    @property
    def numerics(self) -> str:
        """Backend, precision and device."""
        return self.runner.graph.numerics if self.runner else numerics(self.model)

    @property
    def sample(self) -> int:
        """How many texts of the collection this wants to see before it serves: those on which int8 is measured."""
        return SAMPLE if self._options.precision == "int8" else 0

    def look_at(self, texts: Inputs) -> None:
        """Measure the ranges of int8 on these texts; without `sample` nothing is to be measured.

        Raises:
            ModelError: the quantized model answers otherwise than the library.
        """
        if self.sample and texts and self._job is not None and list(texts) != self._seen:
            self._take(runner_for(self._job, texts))
            self._seen = list(texts)

    def _run_by(self, whole: torch.nn.Module | None, library: Callable[[], Iterable[Floats]], **more: Any) -> None:
        """Have the backend of the options run `whole`, if that is to be had; see `engines.choosing.Job`.

        Raises:
            ModelError: another backend than torch is asked for and cannot run it.
        """
        if whole is None or self._options.attention == "flash_attention_2":  # the library then pads nothing
            self._by_library_alone()
        else:
            self._job = Job(
                whole=whole,
                tokens=Tokens(self.model.tokenizer, self.max_length, typed=bool(more.get("typed"))),
                options=self._options,
                key=self._key(),
                numerics=numerics(self.model),
                library=library,
                file=self._exported(),
                **more,
            )
            self._take(runner_for(self._job))

    def _key(self) -> str:
        """Tells converted models apart: all that decides their answers."""
        code = sorted(self._folder.path.glob("*.py")) if self._options.trust_remote_code else []
        files = [file for file in (self._folder.path / "config.json", *code) if file.is_file()]
        said = [self._digests.weights, self._digests.tokenizer, type(self).__name__, *pipeline_steps(self.model)]
        said += [*map(fingerprints.file_sha256, files), str(self.max_length), transformers.__version__]
        return " ".join(said)

    def _exported(self) -> Path | None:
        """The exported model that the options name.

        Raises:
            ModelError: it is not there.
        """
        if not self._options.file_name:
            return None
        file = self._folder.path / self._options.file_name
        if not file.is_file():
            raise ModelError("there is no such exported model", where=file, do="see the files of the model's folder")
        return file

    def _by_library_alone(self) -> None:
        """Leave the model to the library, unless something is asked for that only an engine can do.

        Raises:
            ModelError: something is.
        """
        options = self._options
        if options.file_name:
            what = f"model {self.name!r} cannot be run from an exported file"
            raise ModelError(what, got=options.file_name, expected="a plain dense model or a cross-encoder")
        if options.backend not in ("torch", "auto"):
            raise unfit(options, "a pipeline of other parts than it can be given")
        if options.compiled:
            what = f"model {self.name!r} is run by its library, which does not compile it"
            raise ModelError(what, where="option compiled", do="leave the option out")

    def _take(self, runner: Runner | None) -> None:
        self.runner = runner


def find(options: TorchOptions, *, organization: str = "") -> ModelFolder:
    """The folder of the model that the options name, checked to be safe to load."""
    exported = (f"*{options.file_name.rsplit('.', 1)[0]}*",) if options.file_name else ()
    patterns = (*HUB_PATTERNS, *exported)
    patterns += ("*.bin",) * options.allow_pickle_weights + ("*.py",) * options.trust_remote_code
    folder = resolve(options.model, revision=options.revision, organization=organization, patterns=patterns)
    check_safe(folder, trust_remote_code=options.trust_remote_code, allow_pickle_weights=options.allow_pickle_weights)
    return folder


def load(kind: type[Any], folder: ModelFolder, options: TorchOptions, **more: Any) -> Any:
    """The torch model of class `kind` in `folder`, ready to encode; other backends' models are made of it.

    Args:
        more: constructor arguments of that class alone.
    """
    with _loading, quiet():
        return kind(
            str(folder.path),
            device=options.device if options.backend in ("torch", "auto") else "cpu",
            trust_remote_code=options.trust_remote_code,
            local_files_only=not options.trust_remote_code,
            model_kwargs=model_kwargs(options),
            **more,
        ).eval()


def model_kwargs(options: TorchOptions) -> dict[str, Any]:
    """What transformers is told when it loads the weights."""
    kwargs: dict[str, Any] = {"use_safetensors": None if options.allow_pickle_weights else True}
    if options.backend != "torch":
        kwargs["dtype"] = torch.float32
    elif options.precision:
        kwargs["dtype"] = getattr(torch, options.precision)
    if options.attention:
        kwargs["attn_implementation"] = options.attention
    return kwargs


def prompts_of(model: Any, options: PromptOptions) -> tuple[str, str]:
    """The prompts of queries and of documents: the user's, else the model's own under the names the field uses."""
    own: Mapping[str, str | None] = getattr(model, "prompts", None) or {}
    query, document = options.query_prompt, options.document_prompt
    if query is None:
        query = own.get("query") or ""
    if document is None:
        document = next((own[name] or "" for name in ("document", "passage", "corpus") if own.get(name)), "")
    return query, document


@contextmanager
def untruncated(model: Any) -> Iterator[None]:
    """The model with all dimensions of its vectors."""
    own, model.truncate_dim = model.truncate_dim, None
    try:
        yield
    finally:
        model.truncate_dim = own


def numerics(model: Any) -> str:
    """Backend, precision and device of a model."""
    precision = next((str(p.dtype).removeprefix("torch.") for p in model.parameters()), "")
    return " ".join(word for word in (model.get_backend(), precision, model.device.type) if word)


def require(model_type: str, folder: ModelFolder, *, architectures: tuple[str, ...], instead: str) -> None:
    """Refuse a folder that would be completed with random weights to become a `model_type`.

    Raises:
        ModelError: it is neither saved as that type nor of one of the transformers `architectures` (endings).
    """
    saved = folder.config("config_sentence_transformers.json").get("model_type")
    found = [str(name) for name in folder.config().get("architectures") or []]
    has_modules = (folder.path / "modules.json").is_file()
    if saved == model_type if has_modules else any(name.endswith(architectures) for name in found):
        return
    kind = saved or ("SentenceTransformer" if has_modules else "a bare transformer")
    raise ModelError(
        f"model {folder.name!r} is no trained {model_type}",
        where=folder.path,
        got=f"{kind}, architectures {', '.join(found) or 'unknown'}",
        expected=f"a saved {model_type}, or an architecture ending in {' or '.join(architectures)}",
        do=instead,
    )


def _limit_length(model: Any, max_length: int | None, name: str) -> None:
    if max_length is None:
        return
    positions = getattr(getattr(model, "config", None), "max_position_embeddings", None)
    if positions and max_length > positions:
        raise ModelError(
            f"max_length is more than model {name!r} can read", got=max_length, expected=f"at most {positions} tokens"
        )
    model.max_seq_length = max_length
