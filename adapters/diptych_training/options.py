"""Options that recipe files share. Cheap to import: no torch."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema

from diptych.training import RelativePath
from diptych_training.data.negatives import MiningOptions
from diptych_training.data.synthetic import SyntheticOptions

OF_TEXTS = ("lora", "max_length", "untrained_share")  # options of the training section that only models of texts have

Share = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[int, Field(ge=1)]
AboveZero = Annotated[float, Field(gt=0)]
MINED = ("first_rank", "last_rank", "margin", "relative", "slot")  # options of the search for negatives
# Options of the training section that no data step reads: data steps load models and encode texts, but do not train.
STEPS = ("epochs", "batch_size", "mini_batch_size", "learning_rate", "warmup", "schedule", "weight_decay")
OF_TRAINING = (*STEPS, "max_grad_norm", "untrained_share", "evaluate_every", "patience", "keep")


class Section(BaseModel):
    """A part of a recipe file: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    def changed(self, *names: str) -> list[str]:
        """Those of the options that have another value than their default."""
        fields = type(self).model_fields
        return [name for name in names if getattr(self, name) != fields[name].get_default(call_default_factory=True)]


class DevOptions(Section):
    """Queries held out of the training, to choose the best checkpoint and to measure it."""

    share: Share = Field(0.1, description="Share of the judged queries that is held out; 0 trains on all, blindly.")
    qrels: RelativePath | None = Field(
        None, description="Judgements to hold out instead; their queries are not trained."
    )
    queries: RelativePath | None = Field(None, description="Their queries, when they are in a file of their own.")
    documents: Positive = Field(
        20_000, description="Documents searched at each evaluation: all judged ones, others drawn up to this many."
    )

    def holds_out(self) -> bool:
        """Whether any are."""
        return self.qrels is not None or self.share > 0


class SyntheticQueries(Section):
    """Queries that a generator writes for the documents, beside the judged ones or instead of them."""

    generator: str = Field("templates", description="`templates`, `chat`, or one that an installed plugin brings.")
    options: dict[str, Any] = Field(default_factory=dict, description="Of the generator, such as `model` of `chat`.")
    documents: Positive = Field(500, description="How many documents get queries, drawn evenly over their lengths.")
    density: Positive = Field(2, description="Queries of each document, spread over the styles in turn.")
    styles: Annotated[tuple[str, ...], Field(min_length=1)] = Field(
        ("question", "keywords"), description="What the generator is asked for."
    )
    cut: bool = Field(
        True,
        description="A query that stands in its document word for word is left out of the document that is read; not "
        "in ar2, dexml and unidec, whose queries share the documents.",
    )
    near: AboveZero = Field(
        0.95, description="Queries of one document with a higher cosine, by counts of words, are duplicates."
    )
    leak_words: Positive = Field(5, description="Words in a row that no query may share with a held-out one.")
    round_trip: Positive | None = Field(
        3, description="A query stays if its document is among the first so many that are found; null asks nobody."
    )
    judged: Share | None = Field(None, description="It stays, too, if the generator judges the pair at least this.")
    double_to: Positive | None = Field(
        None,
        description="Double `documents`, up to so many, while the held-out queries gain; each time is a training more.",
    )
    gain: AboveZero = Field(0.005, description="With double_to: of nDCG@10, less than which ends the doubling.")

    def step(self, seed: int) -> SyntheticOptions:
        """The options of the data step."""
        recipe_options = {"generator", "options", "cut", "double_to", "gain"}
        return SyntheticOptions(**self.model_dump(exclude=recipe_options), seed=seed)


class DocumentsOptions(Section):
    """The documents to learn from: a source or a live collection."""

    corpus: RelativePath | None = Field(None, description="The documents: any source that `diptych populate` reads.")
    collection: RelativePath | None = Field(None, description="A diptych.yaml whose collection holds the documents.")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.corpus is None) == (self.collection is None):
            raise ValueError("give either corpus or collection")
        return self


class DataOptions(DocumentsOptions):
    """The data to learn from."""

    queries: RelativePath | None = Field(None, description="queries.jsonl(.gz): `_id` and `text`.")
    qrels: RelativePath | None = Field(None, description="Judgements, BEIR or TREC.")
    dev: DevOptions = Field(default_factory=DevOptions)
    synthetic: SyntheticQueries | None = Field(None, description="Write queries for the documents, too.")

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if (self.queries is None) != (self.qrels is None):
            raise ValueError("give queries and qrels, both or neither")
        if self.queries is None and self.synthetic is None:
            raise ValueError("give queries and qrels, or synthetic, which writes queries")
        if self.queries is None and self.dev.qrels is not None and self.dev.queries is None:
            raise ValueError("give dev.queries beside dev.qrels")
        judged = self.dev.qrels is not None or (self.queries is not None and self.dev.share > 0)
        if self.synthetic is not None and self.synthetic.double_to is not None and not judged:
            raise ValueError("synthetic.double_to wants judged queries to be held out: give queries and qrels, or dev")
        return self


PerQuery = Annotated[int, Field(ge=0, description="How many stand beside each positive; 0 mines none.")]
Beside = Annotated[int, Field(ge=1, description="How many stand beside each positive; one at least.")]
LastRank = Annotated[int, Field(ge=1, description="How deep is searched.")]
Relative = Annotated[
    float | None,
    Field(
        gt=0,
        le=1,
        description="Leave out what scores above this share of the query's best positive; may be relevant.",
    ),
]


class NegativesOptions(Section):
    """Hard negatives, mined before training: from the live collection that `data` names, else by the model itself."""

    per_query: PerQuery = 1
    first_rank: Positive = Field(1, description="The best ranks may be relevant and unjudged: ranks above are skipped.")
    last_rank: LastRank = 100
    margin: AboveZero | None = Field(
        None, description="Leave out what scores less than this below the query's best positive; may be relevant."
    )
    relative: Relative = 0.95
    slot: str | None = Field(None, description="Ask this slot of the collection alone; the whole pipeline else.")

    @model_validator(mode="after")
    def _window(self) -> Self:
        if self.first_rank > self.last_rank:
            raise ValueError(
                f"first_rank {self.first_rank} is behind last_rank {self.last_rank}: give the ranks of a window"
            )
        return self

    def set_options(self, names: Collection[str] = MINED) -> list[str]:
        """The options that were set, as `negatives.<name>`."""
        set_names = [name for name in MINED if name in names and name in self.model_fields_set]
        return [f"negatives.{name}" for name in set_names if getattr(self, name) is not None]

    def step(self, seed: int) -> MiningOptions:
        """What the data step is asked for.

        Raises:
            ConfigError: ranks that are not a window, or no negatives at all.
        """
        ranks = (self.first_rank, self.last_rank)
        return MiningOptions(
            ranks=ranks, per_query=self.per_query, margin=self.margin, relative=self.relative, seed=seed
        )


class LoraOptions(Section):
    """Train low-rank adapters in place of the weights (peft); they are merged into the saved model."""

    rank: Positive = Field(16, description="Of the adapters.")
    alpha: Positive = Field(32, description="Their scale is alpha / rank.")
    dropout: Share = Field(0.0, description="Before the adapters.")
    modules: tuple[str, ...] = Field(("query", "key", "value"), description="Ends of the names of the layers adapted.")


Epochs = Annotated[float, Field(gt=0, description="Passes over the rows.")]
BatchSize = Annotated[int, Field(ge=1, description="Rows a step; each brings negatives for the others.")]
LearningRate = Annotated[float, Field(gt=0, description="Its highest value.")]
MaxLength = Annotated[
    int | None,
    Field(ge=1, description="Tokens read of a text, by the saved model, too; null is its own limit."),
]


class TrainingOptions(Section):
    """How the model is trained."""

    epochs: Epochs = 2.0
    batch_size: BatchSize = 32
    mini_batch_size: Positive | None = Field(
        None, description="Rows that are embedded at a time (gradient caching): large batches in little memory."
    )
    learning_rate: LearningRate = 5e-5
    warmup: Share = Field(0.1, description="Share of the steps in which the learning rate rises.")
    schedule: Literal["linear", "cosine", "constant"] = Field("linear", description="How it falls afterwards.")
    weight_decay: Annotated[float, Field(ge=0)] = Field(0.01, description="Of AdamW.")
    max_grad_norm: AboveZero = Field(1.0, description="Gradients are clipped to this length.")
    max_length: MaxLength = None
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="Of the arithmetic. bfloat16 took half the time on a CPU with AMX."
    )
    attention_dropout: Share | None = Field(
        0.0, description="Of attention weights; null is the model's own, which takes twice the time on a CPU."
    )
    untrained_share: Share = Field(
        0.0, description="Share of the untrained model in the weights that are saved; keeps what it can do elsewhere."
    )
    evaluate_every: Positive | None = Field(None, description="Steps between evaluations; at most ten a training else.")
    patience: Positive | None = Field(None, description="Stop after so many evaluations without a better one.")
    keep: Positive = Field(2, description="Checkpoints kept beside the best.")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="Where; a GPU if there is one.")
    lora: LoraOptions | None = Field(None, description="Train low-rank adapters instead of all weights.")


class Prompts(Section):
    """Prompts before each text, in mining, training, evaluation and the served model."""

    query: str | None = Field(None, description="Before each query; the model's own when not given, '' for none.")
    document: str | None = Field(None, description="Before each document; the model's own when not given, '' for none.")


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

    model: str = Field(min_length=1, description="What is trained: folder, hub name, or a model carried by a wheel.")
    output: RelativePath = Field(description="Folder of the run; the trained model lies there.")
    seed: int = Field(1, description="Of everything that is drawn.")
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
        """Options and sections that no data step reads, which may still change when the data is prepared."""
        return frozenset({"loss", *(f"training.{name}" for name in OF_TRAINING)})

    @model_validator(mode="after")
    def _patient(self) -> Self:
        if self.training.patience is not None and not self.holds_out():
            raise ValueError(
                "training.patience waits for a gain on what is held out, and nothing is: leave it out, or hold "
                "something out under data"
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

    def later(self) -> frozenset[str]:
        """No option if the number of queries is doubled, since whole trainings are a data step then."""
        doubles = self.data.synthetic is not None and self.data.synthetic.double_to is not None
        return frozenset() if doubles else super().later()

    @model_validator(mode="after")
    def _fits_the_data(self) -> Self:
        if self.negatives.slot is not None and self.data.collection is None:
            raise ValueError("negatives.slot is of a collection: name one as data.collection, or leave it out")
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
