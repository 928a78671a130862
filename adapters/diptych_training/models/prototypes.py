"""A frozen encoder that learns classes: a few soft prompt tokens before each text, and one vector for each class.

From Query-as-Anchor (Alipay, 2026), whose adaptation this is; soft prompts: Lester, Al-Rfou, Constant: "The Power of
Scale for Parameter-Efficient Prompt Tuning", EMNLP 2021. The prompt's vectors are rows of new tokens, and the prompt is
the text of those tokens: so what is exported is an ordinary folder of sentence-transformers with a prompt, in which
documents are the names of the classes and go through a table of the prototypes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Normalize, Router
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers import AddedToken, Tokenizer, models, normalizers
from torch import Tensor, nn

from diptych.errors import ContractError
from diptych_training.models.trained_module import TrainedModule, assembled, last_of, parts_of, saved

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
        if len(set(classes)) < len(classes) or not classes:
            got = f"{len(classes)} names, {len(set(classes))} distinct"
            raise ContractError("unusable classes", where="Prototypes", got=got, expected="distinct names")
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


def export_prototypes(model: SentenceTransformer, folder: Path) -> Path:
    """A plain folder of sentence-transformers: queries are texts, documents are names of classes."""
    return saved(classifying_model(model), folder)


def export_prompted(model: SentenceTransformer, folder: Path) -> Path:
    """A plain folder of the prompted encoder without the prototypes, for texts on both sides."""
    tuned: Prototypes = last_of(model, Prototypes, do="make it by prototype_model")
    return saved(assembled(model, _with_rows(model, tuned)), folder)


def classifying_model(model: SentenceTransformer) -> SentenceTransformer:
    """The plain model that `export_prototypes` writes; it shares the encoder of the given one."""
    tuned: Prototypes = last_of(model, Prototypes, do="make it by prototype_model")
    parts = _with_rows(model, tuned)
    query_modules = parts if isinstance(parts[-1], Normalize) else [*parts, Normalize()]
    router = Router.for_query_document(query_modules, [_table(tuned), Normalize()], default_route="query")
    prompts = {"query": prompt_of(tuned.tokens)} if tuned.tokens else {}
    return assembled(model, [router], prompts=prompts, similarity="cosine")


def class_numbers(names: Sequence[str], classes: Sequence[str]) -> list[int]:
    """The number of each class name.

    Raises:
        ContractError: a name that is no class.
    """
    numbers: Mapping[str, int] = {name: number for number, name in enumerate(classes)}
    unknown = sorted({name for name in names if name not in numbers})
    if unknown:
        got = ", ".join(unknown[:3])
        raise ContractError(
            "some names are not classes", where="class_numbers", got=got, expected=f"{len(classes)} names"
        )
    return [numbers[name] for name in names]


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


def _with_rows(model: SentenceTransformer, tuned: Prototypes) -> list[Any]:
    """The encoder's modules, with the soft prompt in its embedding table."""
    parts: list[Any] = list(model.children())[:-1]
    transformer = parts[0]
    with torch.no_grad():
        table = transformer.auto_model.get_input_embeddings().weight
        table[tuned.first_id : tuned.first_id + tuned.tokens] = tuned.rows.to(table.dtype)
    return parts


def _table(tuned: Prototypes) -> StaticEmbedding:
    """A table whose words are whole names of classes."""
    words = {UNKNOWN: 0} | {name: number for number, name in enumerate(tuned.classes, 1)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Strip()
    rows = torch.cat([torch.zeros(1, tuned.width), tuned.vectors.detach().cpu().float()])
    return StaticEmbedding(tokenizer, embedding_weights=rows)
