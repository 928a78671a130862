"""`unidec`: a dual encoder and a classifier over the documents, trained together and served as one vector.

The model is one encoder of texts with two heads, and a free vector of each document. All its modules but the table are
sentence-transformers' own, so what is exported loads without foreign code.

Source: Kharbanda et al., "UniDEC: Unified Dual Encoder and Classifier Training for Extreme Multi-Label Classification",
WWW 2025; see docs/research/methods/unidec.md.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers import Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import Replace, Strip
from tokenizers.normalizers import Sequence as Steps
from torch import Tensor

from diptych.errors import ContractError
from diptych.training import Registration
from diptych.types import Floats
from diptych_experimental.unidec_encoder import CLASSIFIER, LABELS
from diptych_training.losses.base import Features, RetrievalLoss
from diptych_training.losses.contrastive import symmetric_contrastive
from diptych_training.options import AboveZero, Positive, Section, Share
from diptych_training.recipes.dexml import Pooling, PoolingOptions
from diptych_training.relevance import Relevance
from diptych_training.trained_module import TrainedModule

HEADS, TABLE = r"model\.\d+\.linear\.", r"model\.\d+\.weight$"  # their parameters, for learning_rate_mapping
UNKNOWN = "\x00"


class LossOptions(Section):
    """Losses of both heads; see `PSLLoss`."""

    tau: AboveZero = Field(1 / 18, description="Temperature: similarities are divided by it.")
    dropout: Share = Field(0.1, description="Dropout of embeddings and classifier vectors, 0 to 1.")


class ClassifierOptions(Section):
    """The second head, and a vector of each document."""

    weight: Annotated[float, Field(ge=0, le=1)] = Field(0.5, description="Weight of the classifier's loss, 0 to 1.")
    dimension: Positive | None = Field(None, description="Dimension of its embeddings; null is the dual encoder's.")
    learning_rate: AboveZero = Field(
        1e-3, description="Learning rate of the documents' vectors; both heads have twice that of training."
    )


class Options(PoolingOptions):
    """Options of `unidec`."""

    loss: LossOptions = Field(default_factory=LossOptions)
    classifier: ClassifierOptions = Field(default_factory=ClassifierOptions)

    whole: ClassVar[str] = "is not for unidec: make pool.size smaller instead"


class UniDec(Pooling[Options]):
    """Trains both heads."""

    name: ClassVar[str] = "unidec"

    def model(self) -> Any:
        """The encoder with both heads and a table for all documents."""
        documents = self._judged[0].documents  # `data` may still have to ask this model for queries
        return with_classifier(super().model(), len(documents), classifier_dimension=self.options.classifier.dimension)

    def loss(self, model: Any) -> Any:
        """Over both heads."""
        options, classifier = self.options.loss, self.options.classifier
        return PSLLoss(
            model,
            relevance=self.pool.relevance,
            weight=1 - classifier.weight,
            tau=options.tau,
            dropout=options.dropout,
        )

    def new(self, model: Any) -> list[Any]:
        """The table and both heads."""
        return added_to(model)

    def changes(self) -> dict[str, Any]:
        """Learning rates of heads and table."""
        rate = self.options.training.learning_rate
        return {"learning_rate_mapping": {HEADS: 2 * rate, TABLE: self.options.classifier.learning_rate}}

    def export(self, model: Any) -> list[Registration]:
        """One folder: both heads as one vector, and each alone."""
        trained = {int(document) for positives in self.pool.positives.values() for document in positives}
        export_heads(model, list(self.data.documents.values()), self.folder.path, known=trained)
        if len(trained) < len(self.data.documents):
            untrained = len(self.data.documents) - len(trained)
            self.remarks.append(f"{untrained:,} documents that no query asked for have no vector of the classifier")
        model_options = {"model": str(self.folder.path)}
        return [
            Registration("unidec", model_options),
            Registration("sentence-transformers", model_options, "de"),
            Registration("unidec", {**model_options, "head": "classifier"}, "clf"),
        ]


class PSLLoss(RetrievalLoss):
    """`weight` times the loss of the dual encoder and `1 - weight` times that of the classifier.

    UniDEC's loss: a dual encoder and a classifier over one encoder, both over the documents that a batch pools.
    Kharbanda et al., "UniDEC: Unified Dual Encoder and Classifier Training for Extreme Multi-Label Classification",
    WWW 2025. The pool is `diptych_training.recipes.dexml`'s, the model `with_classifier`'s.

    Requirements: (query, document) columns of a `PoolCollator`; labels: ids `[B + M]`.

    The dual encoder compares embeddings of queries and documents by cosine, the classifier its own embedding of a query
    with the free vector of each document, by dot products. Both take the same pool and mask; each loss is the mean with
    that of the documents that ask for their queries.

    Args:
        model: with heads and table, of `with_classifier`.
        relevance: all positives, such as `LabelPool.relevance`.
        weight: of the dual encoder, from 0 to 1.
        tau: temperature of both.
        dropout: on embeddings and free vectors while the model trains.
    """

    def __init__(
        self, model: Any, *, relevance: Relevance, weight: float = 0.5, tau: float = 1 / 18, dropout: float = 0.1
    ) -> None:
        super().__init__(model, tau=tau, relevance=relevance)
        self.table, self.weight, self.dropout = table_of(model), weight, dropout

    def forward(self, sentence_features: Iterable[Features], labels: Tensor | None = None) -> Tensor:
        """The loss of a batch of pooled columns."""
        queries, documents = (self.model(dict(features)) for features in sentence_features)
        columns = [queries["sentence_embedding"], documents["sentence_embedding"], queries[CLASSIFIER]]
        return self.compute_loss_from_embeddings(columns, labels)

    def compute_loss_from_embeddings(self, embeddings: Sequence[Tensor], labels: Tensor | None = None) -> Tensor:
        """The loss from embeddings of queries `[B, D]`, of the pool `[M, D]`, and the classifier's of queries `[B, C]`.

        Raises:
            ContractError: the labels are not ids of a pool, or of documents that the table has not.
        """
        *columns, classified = [self._dropped(part.float()) for part in embeddings]
        candidates = self.candidates(columns, labels)
        places = candidates.documents
        if len(places) and not 0 <= int(places.min()) <= int(places.max()) < len(self.table.weight):
            got, expected = f"ids {int(places.min())} to {int(places.max())}", f"0 to {len(self.table.weight) - 1}"
            raise ContractError("some documents have no row in the table", where="PSLLoss", got=got, expected=expected)
        queries, documents = self.prepared(columns)
        rows = self._dropped(self.table.weight[places].float())
        losses = [
            symmetric_contrastive(part / self.tau, candidates.positive, candidates.negative)
            for part in (queries @ documents.T, classified @ rows.T)
        ]
        return self.weight * losses[0] + (1 - self.weight) * losses[1]

    def _dropped(self, vectors: Tensor) -> Tensor:
        return torch.nn.functional.dropout(vectors, self.dropout, training=bool(self.model.training))


class LabelTable(TrainedModule):
    """The free vectors of a classifier, float32 `[labels, dimension]`, as the last module of a pipeline.

    It lets everything through: being a module, its weights are in the checkpoints of any trainer.
    """

    config_keys: list[str] = ["labels", "dimension"]  # noqa: RUF012  # as the library declares it

    def __init__(self, labels: int, dimension: int) -> None:
        super().__init__()
        self.labels, self.dimension = labels, dimension
        self.weight = torch.nn.Parameter(torch.nn.init.xavier_uniform_(torch.empty(labels, dimension)))

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """The features as they are."""
        return features


def with_classifier(
    model: SentenceTransformer, labels: int, *, dimension: int | None = None, classifier_dimension: int | None = None
) -> SentenceTransformer:
    """Add the two heads and a table for so many labels to the encoder of `model`, sharing its weights.

    The dual encoder's head is a linear layer and tanh; of the encoder's own size it starts as the identity, so that
    training starts near what the encoder knows. The classifier's head is a linear layer, beside it.

    Args:
        model: any dense model; a normalisation at its end is taken off.
        dimension: of the dual encoder's embeddings; the model's own when not given.
        classifier_dimension: of the classifier's; that of the dual encoder when not given.
    """
    encoder = [part for part in model.children() if not isinstance(part, Normalize)]
    width = int(model.get_embedding_dimension() or 0)
    wide = dimension or width
    narrow = classifier_dimension or wide
    head = Dense(width, wide, activation_function=torch.nn.Tanh())
    if wide == width:
        with torch.no_grad():
            head.linear.weight.copy_(torch.eye(width))
            head.linear.bias.zero_()
    classifier = Dense(width, narrow, activation_function=torch.nn.Identity(), module_output_name=CLASSIFIER)
    return _pipeline([*encoder, classifier, head, Normalize(), LabelTable(labels, narrow)], model)


def added_to(model: SentenceTransformer) -> list[torch.nn.Parameter]:
    """The parameters that `with_classifier` added: both heads and the table."""
    classifier, head, _, table = list(model.children())[-4:]
    return [parameter for part in (classifier, head, table) for parameter in part.parameters()]


def table_of(model: Any) -> LabelTable:
    """The table of a model.

    Raises:
        ContractError: it has none.
    """
    for part in model.modules():
        if isinstance(part, LabelTable):
            return part
    raise ContractError(
        "the model has no classifier",
        where="diptych_experimental.unidec",
        got=type(model).__name__,
        do="make it by with_classifier(model, labels)",
    )


def export_heads(
    model: SentenceTransformer, texts: Sequence[str], folder: Path | str, *, known: Container[int] | None = None
) -> None:
    """Write the model that serves: a folder of sentence-transformers, with the free vectors in `labels/`.

    The adapter `sentence-transformers` serves the dual encoder alone, `unidec` both heads or the classifier. `labels/`
    is such a folder, too: it knows a document by its text, spaces aside, and gives zeros for any other. Documents of
    one text share the mean of their vectors.

    Args:
        texts: of the documents, in the order of the table's rows.
        known: the rows that are exported, all unless given. A document that was no query's positive in the training
            learned nothing but what it is not relevant to, and is better left to the dual encoder.

    Raises:
        ContractError: more or fewer texts than rows.
    """
    rows = table_of(model).weight.detach().float().cpu().numpy()
    if len(texts) != len(rows):
        got, expected = f"{len(texts)} texts", f"{len(rows)}, one per row"
        raise ContractError(
            "the number of texts differs from the number of rows", where="export", got=got, expected=expected
        )
    # Without its table it is made of sentence-transformers' own modules; beside `sentence_embedding`, which is the
    # dual encoder's, every text has the classifier's.
    served = _pipeline([part for part in model.children() if not isinstance(part, LabelTable)], model)
    served.save_pretrained(str(folder), create_model_card=False)
    exported = [place for place in range(len(texts)) if known is None or place in known]
    parts: list[Any] = [_by_text([texts[place] for place in exported], rows[exported]), Normalize()]
    labels = SentenceTransformer(modules=parts, similarity_fn_name="dot", device="cpu")
    labels.save_pretrained(str(Path(folder) / LABELS), create_model_card=False)


def _pipeline(parts: list[Any], model: Any) -> SentenceTransformer:
    """A model of these parts with the settings of the original."""
    return SentenceTransformer(modules=parts, prompts=model.prompts, similarity_fn_name="cosine", device=model.device)


def _by_text(texts: Sequence[str], rows: Floats) -> StaticEmbedding:
    """Free vectors by text: a lexicon whose words are whole texts."""
    words: dict[str, list[int]] = {}
    for place, text in enumerate(texts):
        words.setdefault(" ".join(text.split()), []).append(place)
    tokenizer = Tokenizer(WordLevel({**{word: n for n, word in enumerate(words)}, UNKNOWN: len(words)}, UNKNOWN))
    tokenizer.normalizer = Steps([Replace(Regex(r"\s+"), " "), Strip()])
    vectors = [rows[places].mean(0) for places in words.values()] + [np.zeros(rows.shape[1], np.float32)]
    return StaticEmbedding(tokenizer, embedding_weights=np.stack(vectors).astype(np.float32))
