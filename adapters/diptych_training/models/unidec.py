"""UniDEC's model: one encoder of texts with two heads, and a free vector of each document.

Kharbanda et al., "UniDEC: Unified Dual Encoder and Classifier Training for Extreme Multi-Label Classification", WWW
2025. All modules but the table are sentence-transformers' own, so what is exported loads without foreign code.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers import Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import Replace, Strip
from tokenizers.normalizers import Sequence as Steps

from diptych.errors import ContractError
from diptych.types import Floats
from diptych_training.models.trained_module import TrainedModule

CLASSIFIER = "classifier_embedding"  # the feature that the classifier's head makes
HEADS, TABLE = r"model\.\d+\.linear\.", r"model\.\d+\.weight$"  # their parameters, for learning_rate_mapping
LABELS = "labels"  # the folder of the free vectors in an exported model
UNKNOWN = "\x00"


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
        where="diptych_training.models.unidec",
        got=type(model).__name__,
        do="make it by with_classifier(model, labels)",
    )


def served(model: SentenceTransformer) -> SentenceTransformer:
    """The model without its table, made of sentence-transformers' own modules, sharing its weights.

    Its `sentence_embedding` is the dual encoder's, and beside it every text has the classifier's.
    """
    return _pipeline([part for part in model.children() if not isinstance(part, LabelTable)], model)


def export(
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
    served(model).save_pretrained(str(folder), create_model_card=False)
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
