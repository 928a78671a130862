"""Fingerprints of models: which vectors are comparable (`space`), and what only adds noise (`numerics`).

A space is written part by part, `weights:53aa51172d14 tokenizer:... pooling:... query:... document:... length:256
dimension:384`, so that two fingerprints in one error show which part differs. Folder names, hub names and libraries'
versions are left out: a hub model and a local copy of its files have one space.
"""

from __future__ import annotations

import hashlib
import json
import mmap
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from diptych.protocols import Fingerprint
from diptych.runtime.passed_checks import recalled, remember, stamps

DIGITS = 12
ARCHITECTURE = (
    "model_type",
    "num_hidden_layers",
    "n_layers",
    "num_attention_heads",
    "n_heads",
    "hidden_act",
    "activation",
)
COUNTERS = ("position_ids",)  # 0, 1, 2 ...: older libraries saved them, newer ones do not
OVERRIDES = {  # of tokenizer_config.json, which transformers follows rather than the normalizer of tokenizer.json
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}
VOCABULARIES = ("vocab.txt", "vocab.json", "merges.txt", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model")


def fingerprint(
    *,
    weights: str,
    tokenizer: str,
    pooling: Sequence[str],
    prompts: tuple[str, str],
    max_length: int | None,
    dimension: int,
    numerics: str,
    document_weights: str = "",
) -> Fingerprint:
    """The fingerprint of an encoder.

    Args:
        weights, tokenizer: digests, of `weights_digest` and `tokenizer_digest`.
        pooling: the steps from token vectors to the result, in order, normalisation included.
        prompts: of queries and of documents.
        max_length: tokens read of an input, None for all.
        dimension: of the result, after truncation.
        numerics: backend, precision, device.
        document_weights: the digest of the weights that documents go through, where these are not all.
    """
    parts = {
        "weights": weights[:DIGITS],
        "tokenizer": tokenizer[:DIGITS],
        "pooling": "+".join(pooling) or "none",
        "query": _prompt(prompts[0]),
        "document": _prompt(prompts[1]),
        "length": max_length or "all",
        "dimension": dimension,
    }
    labelled = {name: f"{name}:{value}" for name, value in parts.items()}
    document_parts = labelled | ({"weights": f"weights:{document_weights[:DIGITS]}"} if document_weights else {})
    documents = " ".join(part for name, part in document_parts.items() if name != "query")
    return Fingerprint(" ".join(labelled.values()), numerics, documents)


class Digests(NamedTuple):
    """Digests of the files from which a model was loaded; the files may change later."""

    weights: str
    tokenizer: str
    documents: str = ""  # of the weights that documents go through, where these are not all


def digests(folders: Sequence[Path], documents: Sequence[Path] | None = None) -> Digests:
    """The digests of a model's folders.

    Args:
        folders: all.
        documents: those that documents go through, where these are not all.
    """
    document_weights = "" if documents is None or list(documents) == list(folders) else weights_digest(documents)
    return Digests(weights_digest(folders), tokenizer_digest(folders), document_weights)


def weights_digest(folders: Iterable[Path]) -> str:
    """A digest of all weights in `folders`: safetensors; where there are none ONNX; where neither, pickled files.

    Of safetensors the tensors count, not how they are spread over files or what the header says beside them. Facts of
    config.json that choose what is computed from the same weights, such as the number of layers, count too.
    """
    parts: list[str] = []
    for folder in folders:
        patterns = (("*.safetensors",), ("*.onnx", "onnx/*.onnx"), ("pytorch_model*.bin", "*.pt"))
        files = next(filter(None, ([path for own in kinds for path in folder.glob(own)] for kinds in patterns)), [])
        contents = [_once(p, _tensors) if p.suffix == ".safetensors" else [file_sha256(p)] for p in files]
        parts += sorted(part for content in contents for part in content)
        config = read_json(folder / "config.json")
        parts += [f"{key}={config[key]}" for key in ARCHITECTURE if key in config]
    return digest(parts)


def tokenizer_digest(folders: Iterable[Path]) -> str:
    """A digest of the tokenizer in the first folder that has one, without its padding and truncation settings.

    Settings of tokenizer_config.json that override tokenizer.json count too.
    """
    for folder in folders:
        if (folder / "tokenizer.json").is_file():
            content = _once(folder / "tokenizer.json", _tokenizer_content)
            return digest([content, overrides]) if (overrides := overridden(folder)) else content
        if vocabularies := [folder / name for name in VOCABULARIES if (folder / name).is_file()]:
            return digest([file_sha256(path) for path in vocabularies])
    return digest([])


def file_sha256(path: Path) -> str:
    """The sha256 of a file's bytes; remembered as long as its stamp stays, see `diptych.runtime.passed_checks`."""
    return _once(path, _sha256)


def digest(value: Any) -> str:
    """The sha256 of a JSON value in one spelling."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def read_json(path: Path) -> Mapping[str, Any]:
    """The JSON object in a file, {} when the file does not exist."""
    return json.loads(path.read_text("utf-8")) if path.is_file() else {}


def read_json_list(path: Path) -> list[Mapping[str, Any]]:
    """The JSON objects listed in a file, [] when the file does not exist."""
    return json.loads(path.read_text("utf-8")) if path.is_file() else []


def _prompt(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS] if text else "none"


def overridden(folder: Path) -> dict[str, Any]:
    """The settings of tokenizer_config.json that differ from tokenizer.json."""
    config, tokenizer = read_json(folder / "tokenizer_config.json"), read_json(folder / "tokenizer.json")
    normalizer = tokenizer.get("normalizer") or {}
    overrides = {
        key: config[key] for key, name in OVERRIDES.items() if key in config and config[key] != normalizer.get(name)
    }
    overrides = overrides if normalizer.get("type") == "BertNormalizer" else {}
    return overrides | ({"truncation_side": "left"} if config.get("truncation_side") == "left" else {})


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _tokenizer_content(path: Path) -> str:
    content = json.loads(path.read_text("utf-8"))
    return digest({key: value for key, value in content.items() if key not in ("padding", "truncation")})


def _tensors(path: Path) -> list[str]:
    """Name, type, shape and sha256 of each tensor, after the safetensors format: header length, JSON header, data."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        start = 8 + int.from_bytes(data[:8], "little")
        header = json.loads(data[8:start])
        parts: list[str] = []
        for name, facts in header.items():
            if name != "__metadata__" and not name.endswith(COUNTERS):
                begin, end = (start + offset for offset in facts["data_offsets"])
                with memoryview(data) as view, view[begin:end] as tensor:
                    parts.append(f"{name} {facts['dtype']} {facts['shape']} {hashlib.sha256(tensor).hexdigest()}")
        return parts


Content = TypeVar("Content", str, list[str])
_contents: dict[tuple[str, str], tuple[object, Any]] = {}


def _once(path: Path, read: Callable[[Path], Content]) -> Content:
    """The result of `read` for a file; remembered, also for later processes, while the file is unchanged."""
    key, state = (read.__name__, str(path.absolute())), stamps([path.absolute()])
    if state is None:  # so new that it may change again with the same stamp
        return read(path)
    if key in _contents and _contents[key][0] == state:
        return _contents[key][1]  # type: ignore[no-any-return]
    content = recalled(f"digests{read.__name__}", key[1], state)
    if content is None:
        content = read(path)
        if stamps([path.absolute()]) == state:
            remember(f"digests{read.__name__}", key[1], state, content)
    _contents[key] = state, content
    return content  # type: ignore[no-any-return]


NO_EFFECT = ("Dropout",)  # modules that change no result


def pipeline_steps(model: Any) -> list[str]:
    """The modules of a pipeline that turn token vectors into the result, each with the facts that change it.

    The facts are picked here rather than taken from the library's own configuration, whose keys change with its
    version: a collection must not be refused because a library was updated.
    """
    return [step for module in model.children() if (step := _step(module))]


def is_routed(model: Any) -> bool:
    """Whether queries and documents use different modules."""
    return any(type(module).__name__ == "Router" for module in model.children())


def _step(module: Any) -> str:
    kind = type(module).__name__
    if kind in NO_EFFECT:
        return ""
    if kind == "Transformer":
        lower = ["lowercase"] if getattr(module, "do_lower_case", False) else []
        # Settings that only late-interaction models have; the rest is in weights, tokenizer and length.
        names = ("query_length", "document_length", "query_expansion")
        lengths = {name: value for name in names if (value := getattr(module, name, None)) is not None}
        return "+".join([*lower, *([f"lengths({_short(lengths)})"] if lengths else [])])
    facts = ",".join(filter(None, _facts(kind, module)))
    return f"{kind.lower()}({facts})" if facts else kind.lower()


def _facts(kind: str, module: Any) -> list[str]:
    if kind == "Pooling":
        mode = module.pooling_mode
        return [mode if isinstance(mode, str) else "&".join(mode), "" if module.include_prompt else "without-prompt"]
    if kind == "SpladePooling":
        return [module.pooling_strategy, module.activation_function]
    if kind == "Router":
        return [f"{name}:{'+'.join(pipeline_steps(route))}" for name, route in sorted(module.sub_modules.items())]
    if kind == "Dense":
        return [f"{module.in_features}-{module.out_features}", type(module.activation_function).__name__]
    if kind == "MultiVectorMask":
        return [_short([sorted(module.skiplist_words or []), sorted(module.keep_only_token_ids or [])])]
    if kind in ("Normalize", "StaticEmbedding"):
        return []
    return [_short(module.get_config_dict()) if hasattr(module, "get_config_dict") else ""]


def _short(value: Any) -> str:
    return digest(value)[:DIGITS]
