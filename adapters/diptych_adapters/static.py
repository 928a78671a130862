"""Static embeddings: a table of token vectors and their mean. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from model2vec import StaticModel
from numpy.typing import NDArray
from safetensors import safe_open

from diptych.protocols import Fingerprint, Similarity
from diptych.types import Floats
from diptych_adapters.engines.batches import DocumentTokens
from diptych_adapters.model_options import StaticOptions
from diptych_adapters.models import ModelError, ModelFolder, check_width, resolve
from diptych_adapters.pipelines import fingerprints

FILES = ("model.safetensors", "tokenizer.json")
TABLES, BESIDE = {"embeddings", "embedding.weight"}, {"weights", "mapping"}  # keys of weights


class StaticEncoder:
    """A dense encoder out of a model2vec folder, or a sentence-transformers folder with a StaticEmbedding.

    Each folder is read as its own library reads it: model2vec leaves unknown tokens out and reads 512 tokens,
    sentence-transformers keeps unknown tokens and reads all. A text without a known token gives the zero vector.

    Raises:
        ModelError: the model cannot be found, or is more than a static embedding.
    """

    similarity: Similarity = "cosine"

    def __init__(self, **given: Any) -> None:
        options = StaticOptions(**given)
        folder = resolve(options.model, revision=options.revision)
        _require_model(folder)
        self._digests = fingerprints.digests(folder.module_folders())
        self._foreign = _foreign_steps(folder)
        self._prompts = (options.query_prompt, options.document_prompt)
        self.asymmetric: bool = options.query_prompt != options.document_prompt
        self._batch_size = options.batch_size
        self._model = _load(folder, options.truncate_dim)
        normalizes = self._model.normalize if self._foreign is None else "Normalize" in self._foreign
        self._normalize = bool(normalizes) if options.normalize is None else options.normalize
        self.max_length: int | None = options.max_length or (self._model.max_length if self._foreign is None else None)
        self.dimension: int = int(self._model.dim)

    @property
    def fingerprint(self) -> Fingerprint:
        """Which vectors this makes; see diptych_adapters.pipelines.fingerprints."""
        steps = ["static" if self._foreign is None else "staticembedding"]
        return fingerprints.fingerprint(
            weights=self._digests.weights,
            tokenizer=self._digests.tokenizer,
            pooling=[*steps, "normalize"] if self._normalize else steps,
            prompts=self._prompts,
            max_length=self.max_length,
            dimension=self.dimension,
            numerics=f"numpy {self._model.embedding_dtype} cpu",
        )

    def encode_query(self, inputs: Sequence[str]) -> Floats:
        """Vectors of queries, float32 `[n, dimension]`."""
        return self._encode(inputs, self._prompts[0])

    def encode_document(self, inputs: Sequence[str]) -> Floats:
        """Vectors of documents, float32 `[n, dimension]`."""
        return self._encode(inputs, self._prompts[1])

    def token_spans(self, inputs: Sequence[str]) -> list[NDArray[np.int32]]:
        """Where the tokens of each document are, nothing cut: int32 `[tokens_i, 2]`, begin and end in characters."""
        return self._document_tokens.spans(inputs)

    @property
    def max_tokens(self) -> int | None:
        """Tokens of a document that the model reads, without its prompt; None for all."""
        return self._document_tokens.room(self.max_length)

    @cached_property
    def _document_tokens(self) -> DocumentTokens:
        return DocumentTokens(self._model.tokenizer.to_str(), self._prompts[1], special=False)

    def _encode(self, inputs: Sequence[str], prompt: str) -> Floats:
        if not inputs:
            return np.zeros((0, self.dimension), np.float32)
        vectors = self._model.encode(
            [prompt + text for text in inputs],
            max_length=self.max_length,
            normalize=self._normalize,
            batch_size=self._batch_size,
            use_multiprocessing=False,
        )
        return np.ascontiguousarray(vectors, np.float32)


def _require_model(folder: ModelFolder) -> None:
    """Raise ModelError for a folder that lacks a file of a static embedding, unless it holds another model."""
    lacking = [name for name in FILES if not any(folder.path.rglob(name))]
    configs = ("config.json", "config_sentence_transformers.json")
    lacking += [] if any((folder.path / name).is_file() for name in configs) else configs[:1]
    if lacking and not folder.config().get("architectures"):
        raise ModelError(
            f"the folder of model {folder.name!r} holds no static embedding: it lacks {' and '.join(lacking)}",
            where=folder.path,
            got=folder.listed(),
            expected=f"{', '.join(FILES)}, and {' or '.join(configs)}",
            do="name the folder that holds these files; inside a package wheel:NAME/folder",
        )


def _foreign_steps(folder: ModelFolder) -> list[str] | None:
    """The modules of a sentence-transformers folder, None for a model2vec folder.

    model2vec writes modules.json too; only its folders have a config.json beside the table.
    """
    if (folder.path / "config.json").is_file() and not folder.config().get("architectures"):
        return None
    listing = folder.path / "modules.json"
    steps = [str(module["type"]).rpartition(".")[2] for module in fingerprints.read_json_list(listing)]
    if steps[:1] != ["StaticEmbedding"] or set(steps) - {"StaticEmbedding", "Normalize"}:
        raise ModelError(
            f"model {folder.name!r} is not a static embedding",
            where=folder.path,
            got=" + ".join(steps) or f"a model of transformers: {', '.join(folder.config()['architectures'])}",
            expected="a model2vec folder, or StaticEmbedding with or without Normalize",
            do="use adapter: sentence-transformers",
        )
    return steps


def _load(folder: ModelFolder, truncate_dim: int | None) -> StaticModel:
    _check_keys(folder)
    model = StaticModel.from_pretrained(folder.path)
    if check_width(truncate_dim, model.dim, folder.name) is not None:
        model = StaticModel.from_pretrained(folder.path, dimensionality=truncate_dim)
    if _foreign_steps(folder) is not None:
        model.unk_token_id = None
    return model


def _check_keys(folder: ModelFolder) -> None:
    """Refuse a file without the table, or with unknown weights.

    Raises:
        ModelError: naming the keys.
    """
    files = [part / "model.safetensors" for part in folder.module_folders()]
    for file in (file for file in files if file.is_file()):
        with safe_open(file, "numpy") as weights:
            keys = set(weights.keys())
        if not keys & TABLES or keys - TABLES - BESIDE:
            raise ModelError(
                f"the weights of model {folder.name!r} are not those of a static embedding",
                where=file,
                got=", ".join(sorted(keys)) or "none",
                expected=f"{' or '.join(sorted(TABLES))}, and beside it at most {' and '.join(sorted(BESIDE))}",
                do="download or save the model again",
            )
