"""`prototype_tuning`: a frozen encoder learns classes by a soft prompt and class vectors, from few examples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any, ClassVar, Self

import torch
from pydantic import Field, model_validator
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Normalize, Router
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers import AddedToken, Tokenizer, models, normalizers
from torch import Tensor, nn

from diptych.errors import ContractError
from diptych.training import Registration
from diptych_training.corpus import TrainingData, held_out
from diptych_training.losses.base import Features
from diptych_training.options import AboveZero, DataOptions, RecipeOptions, Section, TrainingOptions
from diptych_training.recipes.base import Training
from diptych_training.recipes.negatives import documents_of
from diptych_training.rows import pairs
from diptych_training.running.run import HeldOutEvaluator, search_evaluator
from diptych_training.trained_module import TrainedModule, assembled, last_of, parts_of, saved

UNKNOWN = "[no such class]"  # its row is zero


class Prototypes(TrainedModule):
    """The trained parts of prototype tuning: embeddings of the soft prompt's tokens, and a vector for each class.

    Args:
        classes: their names, distinct.
        width: of texts' vectors.
        tokens: of the soft prompt, in the tokenizer's ids one after the other.
        token_width: of the rows.
        first_id: the id of the first of the tokens.
    """

    config_keys: list[str] = ["classes", "width", "tokens", "token_width", "first_id"]  # noqa: RUF012  # as sentence-transformers declares it

    def __init__(
        self, classes: Sequence[str], width: int, *, tokens: int = 0, token_width: int = 1, first_id: int = 0
    ) -> None:
        super().__init__()
        self.classes, self.width, self.tokens, self.token_width = list(classes), width, tokens, token_width
        self.first_id = first_id
        self.rows = nn.Parameter(torch.zeros(tokens, token_width))
        self.vectors = nn.Parameter(torch.zeros(len(self.classes), width))

    def forward(self, features: dict[str, Any], **_: Any) -> dict[str, Any]:
        """The features as they are."""
        return features

    def replaced(self, ids: Tensor, vectors: Tensor) -> Tensor:
        """Token vectors `[B, T, token_width]` of `ids [B, T]` with those of the soft prompt in their places."""
        soft = (ids >= self.first_id) & (ids < self.first_id + self.tokens)
        prompt_vectors = nn.functional.embedding((ids - self.first_id).clamp(0, self.tokens - 1), self.rows)
        return torch.where(soft[..., None], prompt_vectors.to(vectors.dtype), vectors)

    def start_at(self, vectors: Tensor, classes: Tensor) -> None:
        """Set each prototype to the mean of its texts' vectors of unit length; a class without texts stays zero.

        Args:
            vectors: `[n, width]`.
            classes: the class of each, integers `[n]`.
        """
        unit = nn.functional.normalize(vectors.float(), dim=-1)
        sums = torch.zeros_like(self.vectors).index_add_(0, classes.to(unit.device), unit)
        with torch.no_grad():
            self.vectors.copy_(nn.functional.normalize(sums, dim=-1))

    def get_embedding_dimension(self) -> int:
        """The width of texts' vectors."""
        return self.width


def prototype_model(
    model: SentenceTransformer, classes: Sequence[str], *, tokens: int = 6, seed: int = 0
) -> SentenceTransformer:
    """The model, frozen, with a soft prompt and prototypes that train by `PrototypeLoss`.

    The given model's tokenizer and table of tokens get the new ones, and its weights are frozen. `prompt_of` is to be
    put before each text. The new rows begin as those of random words.

    Args:
        model: Transformer, Pooling, perhaps Dense and Normalize.
        classes: their names.
        tokens: of the soft prompt; 0 trains the prototypes alone.
        seed: of the rows.

    Raises:
        ContractError: a model of other parts, or one whose tokenizer takes no new tokens one after the other.
    """
    parts = parts_of(model, where="prototype_model", allowed=("Pooling", "Dense", "LayerNorm", "Normalize"))
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    transformer: Any = parts[0]
    first = _add_tokens(transformer, tokens)
    table = transformer.auto_model.get_input_embeddings()
    prototypes = Prototypes(
        classes,
        int(model.get_embedding_dimension() or 0),
        tokens=tokens,
        token_width=table.weight.shape[1],
        first_id=first,
    )
    random_words = torch.randint(first, (tokens,), generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        prototypes.rows.copy_(table.weight[random_words])
    if tokens:
        table.register_forward_hook(lambda _, inputs, output: prototypes.replaced(inputs[0], output))
    names = ("query", "document") if tokens else ()
    return assembled(model, [*parts, prototypes], prompts=dict.fromkeys(names, prompt_of(tokens)))


def prompt_of(tokens: int) -> str:
    """The text that represents the soft prompt."""
    return "".join(map(_token, range(tokens)))


def classifying_model(model: SentenceTransformer) -> SentenceTransformer:
    """The plain model to serve, which shares the encoder: queries are texts, documents are names of classes."""
    tuned: Prototypes = last_of(model, Prototypes, do="make it by prototype_model")
    parts: list[Any] = list(model.children())[:-1]
    with torch.no_grad():
        table = parts[0].auto_model.get_input_embeddings().weight
        table[tuned.first_id : tuned.first_id + tuned.tokens] = tuned.rows.to(table.dtype)
    query_modules = parts if isinstance(parts[-1], Normalize) else [*parts, Normalize()]
    # A table whose words are whole names of classes.
    words = {UNKNOWN: 0} | {name: number for number, name in enumerate(tuned.classes, 1)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Strip()
    rows = torch.cat([torch.zeros(1, tuned.width), tuned.vectors.detach().cpu().float()])
    classes = [StaticEmbedding(tokenizer, embedding_weights=rows), Normalize()]
    router = Router.for_query_document(query_modules, classes, default_route="query")
    prompts = {"query": prompt_of(tuned.tokens)} if tuned.tokens else {}
    return assembled(model, [router], prompts=prompts, similarity="cosine")


def _token(number: int) -> str:
    return f"[soft{number}]"


def _add_tokens(transformer: Any, tokens: int) -> int:
    """Add the tokens to tokenizer and embedding table; returns the id of the first."""
    tokenizer, network = transformer.tokenizer, transformer.auto_model
    names = [_token(number) for number in range(tokens)]
    tokenizer.add_tokens([AddedToken(name, normalized=False, special=True) for name in names])
    ids = tokenizer.convert_tokens_to_ids(names)
    first: int = ids[0] if ids else len(tokenizer)
    if ids != list(range(first, first + tokens)):
        expected = "ids one after the other"
        raise ContractError(
            "the tokenizer has no room for a soft prompt", where="prototype_model", got=ids, expected=expected
        )
    if first + tokens > network.get_input_embeddings().num_embeddings:
        network.resize_token_embeddings(first + tokens, mean_resizing=False)
        network.get_input_embeddings().weight.requires_grad_(False)
    return first


class PromptOptions(Section):
    """Options of the soft prompt."""

    tokens: int = Field(6, ge=0, description="Trained tokens before each text; 0 trains the class vectors only.")
    tau: AboveZero = Field(0.05, description="Temperature: cosines are divided by it.")


class Tuning(TrainingOptions):
    """Training options for few weights and few examples."""

    epochs: AboveZero = Field(25.0, description="Passes over the training rows.")
    learning_rate: AboveZero = Field(1e-2, description="Peak learning rate.")
    weight_decay: float = Field(0.0, ge=0, description="AdamW weight decay.")


class Options(RecipeOptions):
    """Options of `prototype_tuning`: queries are texts, documents are classes, qrels say which is which."""

    data: DataOptions
    prompt: PromptOptions = Field(default_factory=PromptOptions)
    training: Tuning = Field(default_factory=Tuning)

    unprompted: ClassVar[str] = "are not for prototype_tuning, which learns its own"
    refused: ClassVar[tuple[str, ...]] = ("training.lora", "training.mini_batch_size", "data.synthetic")

    def holds_out(self) -> bool:
        """Whether any texts are held out."""
        return self.data.dev.holds_out()

    @model_validator(mode="after")
    def _frozen(self) -> Self:
        if self.training.lora is not None or self.training.mini_batch_size is not None:
            raise ValueError("the encoder is frozen: training.lora and training.mini_batch_size do not go with it")
        if self.data.queries is None or self.data.qrels is None or self.data.synthetic is not None:
            raise ValueError("classes are learned from judged texts: give data.queries and data.qrels, not synthetic")
        return self


class PrototypeTuning(Training[Options]):
    """Trains a soft prompt and prototypes."""

    name: ClassVar[str] = "prototype_tuning"

    def judged(self) -> Iterable[TrainingData]:
        """The texts for training and those held out."""
        return self._split

    def model(self) -> Any:
        """The frozen encoder with its prompt; each class begins at the mean of its examples."""
        model: Any = prototype_model(
            super().model(), self.classes, tokens=self.options.prompt.tokens, seed=self.options.seed
        )
        texts, numbers = self.examples
        vectors = model.encode(texts, convert_to_tensor=True, show_progress_bar=False)
        model[-1].start_at(vectors, torch.tensor(numbers))
        return model

    def rows(self) -> Any:
        """A row for each text and class of it."""
        import datasets

        texts, numbers = self.examples
        return datasets.Dataset.from_dict({"text": texts, "label": numbers})

    def loss(self, model: Any) -> PrototypeLoss:
        """The cross-entropy of classes."""
        return PrototypeLoss(model, tau=self.options.prompt.tau)

    def export(self, model: Any) -> list[Registration]:
        """One plain model: queries are texts, documents are classes."""
        saved(classifying_model(model), self.folder.path)
        return [Registration(self.family.adapter, {"model": str(self.folder.path)})]

    def evaluator(self) -> HeldOutEvaluator | None:
        """The evaluator on the held-out texts, among all classes."""
        held, options = self._split[1], self.options
        inner = search_evaluator(held, self.kind, documents=len(held.documents), seed=options.seed)
        return None if inner is None else HeldOutEvaluator(lambda model: inner.inner(classifying_model(model)))

    @cached_property
    def classes(self) -> list[str]:
        """Names of the classes: the texts of the documents."""
        return list(dict.fromkeys(text for text in self._split[0].documents.values() if text))

    @cached_property
    def examples(self) -> tuple[list[str], list[int]]:
        """Texts behind their prompt, and the numbers of their classes."""
        data, prompt = self._split[0], prompt_of(self.options.prompt.tokens)
        numbers = {name: number for number, name in enumerate(self.classes)}
        examples = [(prompt + data.queries[query], numbers[data.documents[name]]) for query, name in pairs(data)]
        return [text for text, _ in examples], [number for _, number in examples]

    @cached_property
    def _split(self) -> tuple[TrainingData, TrainingData]:
        options = self.options.data
        return held_out(TrainingData.read(options, documents_of(options)), options, self.options.seed)


class PrototypeLoss(torch.nn.Module):
    """`-log softmax_k(cos(u, p_k) / tau)` at the class of each text, for a model of `prototype_model`.

    The adaptation of Query-as-Anchor (Alipay, 2026); with fixed means for prototypes the head of prototypical networks:
    Snell, Swersky, Zemel, NeurIPS 2017.

    Requirements: one column of texts; labels: the class of each, integers `[B]`.

    Args:
        model: of `prototype_model`.
        tau: temperature.
    """

    def __init__(self, model: Any, *, tau: float = 0.05) -> None:
        super().__init__()
        self.model, self.tau = model, tau

    def forward(self, sentence_features: Iterable[Features], labels: Tensor) -> Tensor:
        """The loss of a batch."""
        (features,) = sentence_features
        vectors, normal = self.model({**features})["sentence_embedding"], torch.nn.functional.normalize
        tuned: Prototypes = last_of(self.model, Prototypes, do="give the loss a model of prototype_model")
        scores = normal(vectors.float(), dim=-1) @ normal(tuned.vectors, dim=-1).T
        return torch.nn.functional.cross_entropy(scores / self.tau, labels.to(scores.device))
