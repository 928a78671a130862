"""Loads sentence-transformers pipelines and tells what decides their vectors. Imports torch: import it lazily."""

from __future__ import annotations

import importlib.util
import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Self, cast

import torch
from transformers.utils import logging as transformers_logging

from diptych.errors import MissingExtra
from diptych.protocols import Fingerprint
from diptych_adapters import fingerprints
from diptych_adapters.model_options import PromptOptions, TorchOptions
from diptych_adapters.models import BACKEND_PATTERNS, HUB_PATTERNS, ModelError, ModelFolder, check_safe, resolve
from diptych_adapters.pipeline_steps import pipeline_steps

_loading = threading.Lock()
_NO_LIMIT = 10**9  # tokenizers without a limit say a number far above this one


class Pipeline:
    """A sentence-transformers model behind an adapter: its folder, its options, and a lock.

    The lock is there because a fast tokenizer holds its padding and truncation settings for the call.
    """

    options_model: ClassVar[type[TorchOptions]]

    def __init__(self, folder: ModelFolder, model: Any, options: TorchOptions) -> None:
        self.name = folder.name
        self.model = model
        self._lock = threading.Lock()
        self._digests = fingerprints.digests(folder.module_folders())
        _limit_length(model, options.max_length, self.name)

    @classmethod
    def of(cls, **options: Any) -> Self:
        """The adapter from its options as keywords, as a config file gives them."""
        return cls(cls.options_model(**options))  # type: ignore[arg-type,call-arg]

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
        )

    @property
    def numerics(self) -> str:
        """Backend, precision and device."""
        return numerics(self.model)


def find(options: TorchOptions, *, organization: str = "") -> ModelFolder:
    """The folder of the model that the options name, checked to be safe to load."""
    exported = BACKEND_PATTERNS.get(options.backend, ())
    patterns = (*HUB_PATTERNS, *((f"*{options.file_name.split('.')[0]}*",) if options.file_name else exported))
    patterns += ("*.bin",) * options.allow_pickle_weights + ("*.py",) * options.trust_remote_code
    folder = resolve(options.model, revision=options.revision, organization=organization, patterns=patterns)
    check_safe(folder, trust_remote_code=options.trust_remote_code, allow_pickle_weights=options.allow_pickle_weights)
    return folder


def load(kind: type[Any], folder: ModelFolder, options: TorchOptions, **more: Any) -> Any:
    """The model of class `kind` in `folder`, ready to encode. `more`: constructor arguments of that class alone.

    Raises:
        MissingExtra: the backend's packages are not installed.
    """
    if options.backend != "torch" and importlib.util.find_spec("optimum") is None:
        raise MissingExtra(
            f"backend {options.backend!r} needs optimum",
            where=folder.name,
            do=f"pip install 'sentence-transformers[{options.backend}]'",
        )
    with _loading, quiet():
        return kind(
            str(folder.path),
            device=options.device,
            backend=options.backend,
            trust_remote_code=options.trust_remote_code,
            local_files_only=not options.trust_remote_code,
            model_kwargs=model_kwargs(options),
            **more,
        ).eval()


def model_kwargs(options: TorchOptions) -> dict[str, Any]:
    """What transformers is told when it loads the weights."""
    kwargs: dict[str, Any] = {"file_name": options.file_name} if options.file_name else {}
    if options.backend == "torch":
        kwargs["use_safetensors"] = None if options.allow_pickle_weights else True
        if options.precision:
            kwargs["dtype"] = getattr(torch, options.precision)
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


@contextmanager
def quiet() -> Iterator[None]:
    """Loading without progress bars and advice; the libraries' own settings are put back afterwards."""
    logger, library = logging.getLogger("sentence_transformers"), cast(Any, transformers_logging)
    level, verbosity = logger.level, library.get_verbosity()
    bars = library.is_progress_bar_enabled()
    logger.setLevel(logging.ERROR)
    library.set_verbosity_error()
    library.disable_progress_bar()
    try:
        yield
    finally:
        logger.setLevel(level)
        library.set_verbosity(verbosity)
        if bars:
            library.enable_progress_bar()


def _limit_length(model: Any, max_length: int | None, name: str) -> None:
    if max_length is None:
        return
    positions = getattr(getattr(model, "config", None), "max_position_embeddings", None)
    if positions and max_length > positions:
        raise ModelError(
            f"max_length is more than model {name!r} can read", got=max_length, expected=f"at most {positions} tokens"
        )
    model.max_seq_length = max_length
