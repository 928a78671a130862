"""An encoder with a small decoder that restores the text from its vector, for adaptation to unlabelled texts.

Livne, Swersky, Fleet: "MIM: Mutual Information Machine", 2019, and Livne: "cMIM: A Contrastive Mutual Information
Framework for Unified Generative and Discriminative Representation Learning", 2025. While it trains, the model is
[Transformer, Pooling, Decoder]; `encoder_of` gives back the first two, with which it serves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Normalize
from sentence_transformers.util import batch_to_device
from torch import Tensor, nn

from diptych.errors import ContractError
from diptych_training.models.trained_module import TrainedModule, assembled, last_of, parts_of


class Decoder(TrainedModule):
    """The spread of a text's code around its vector, and a decoder from codes to words.

    Args:
        width: of the code, which is that of the encoder's word vectors too.
        layers, heads: of the decoder.
        max_length: tokens that are read back at most.
        sigma_floor: the least standard deviation of a code: `log q(z|x)` has no upper bound without it.
    """

    config_keys: list[str] = ["width", "layers", "heads", "max_length", "sigma_floor"]  # noqa: RUF012  # as sentence-transformers declares it

    def __init__(
        self, width: int, *, layers: int = 1, heads: int = 4, max_length: int = 128, sigma_floor: float = 1e-2
    ) -> None:
        super().__init__()
        if sigma_floor <= 0 or width % heads:
            got = f"sigma_floor {sigma_floor}, {heads} heads of width {width}"
            raise ContractError(
                "unusable decoder", where="Decoder", got=got, expected="a floor above 0, heads that fit"
            )
        self.width, self.layers, self.heads = width, layers, heads
        self.max_length, self.sigma_floor = max_length, sigma_floor
        self.spread = nn.Linear(width, width)
        self.places = nn.Embedding(max_length, width)
        self.start = nn.Parameter(torch.zeros(width))
        block = nn.TransformerDecoderLayer(width, heads, 2 * width, dropout=0.0, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerDecoder(block, layers, norm=nn.LayerNorm(width))
        nn.init.normal_(self.places.weight, std=0.02)

    def forward(self, features: dict[str, Any], **_: Any) -> dict[str, Any]:
        """The features as they are: vectors of texts are the means of their codes."""
        return features

    def sigma(self, mean: Tensor) -> Tensor:
        """The standard deviations `[B, width]` of the codes of texts with these vectors, above the floor."""
        return self.sigma_floor + nn.functional.softplus(self.spread(mean))

    def states(self, code: Tensor, ids: Tensor, mask: Tensor, words: Tensor) -> Tensor:
        """The last states `[B, T, width]`, each from the code and the words before its own (teacher forcing).

        Args:
            code: `[B, width]`.
            ids, mask: of the text, `[B, T]`, T at most `max_length`.
            words: vectors of the vocabulary `[V, width]`.
        """
        previous = nn.functional.embedding(ids[:, :-1], words)
        start = self.start.expand(len(ids), 1, self.width)
        inputs = torch.cat([start, previous], 1) + self.places.weight[: ids.shape[1]] + code[:, None]
        future = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool, device=ids.device).triu(1)
        padding = torch.cat([torch.zeros_like(mask[:, :1]), 1 - mask[:, :-1]], 1).bool()
        states: Tensor = self.blocks(
            inputs, code[:, None], tgt_mask=future, tgt_key_padding_mask=padding, tgt_is_causal=True
        )
        return states

    def log_likelihood(self, code: Tensor, ids: Tensor, mask: Tensor, words: Tensor) -> Tensor:
        """`log p(x | z)` `[B]`, the sum over the words of each text; arguments as of `states`."""
        logits = (self.states(code, ids, mask, words) @ words.T).float()
        log_probabilities = logits.log_softmax(-1).gather(-1, ids[..., None])[..., 0]
        return (log_probabilities * mask).sum(1)

    def get_embedding_dimension(self) -> int:
        """The width of the code."""
        return self.width


def with_decoder(
    model: SentenceTransformer, *, layers: int = 1, heads: int = 4, sigma_floor: float = 1e-2
) -> SentenceTransformer:
    """The model with a decoder, to be trained by `CMIMLoss`; it shares the given one's weights.

    Args:
        model: Transformer, Pooling, perhaps Normalize, which is left out: codes have a length.
        layers, heads, sigma_floor: see `Decoder`.

    Raises:
        ContractError: a model of other parts, or one whose vectors and word vectors differ in width.
    """
    parts = parts_of(model, where="with_decoder", allowed=("Pooling", "Normalize"))
    width, words = int(model.get_embedding_dimension() or 0), words_of(model)
    if words.shape[1] != width:
        got = f"vectors of {width}, words of {words.shape[1]}"
        raise ContractError("vectors and word vectors differ in width", where="with_decoder", got=got)
    length = int(model.max_seq_length or 512)
    decoder = Decoder(width, layers=layers, heads=heads, max_length=length, sigma_floor=sigma_floor)
    modules = [part for part in parts if not isinstance(part, Normalize)]
    return assembled(model, [*modules, decoder], similarity="cosine")


def encoder_of(model: SentenceTransformer) -> SentenceTransformer:
    """The plain encoder with vectors of unit length, without the decoder."""
    last_of(model, Decoder, do="make it by with_decoder")
    return assembled(model, [*list(model.children())[:-1], Normalize()])


def informative(model: SentenceTransformer, texts: Sequence[str], *, batch_size: int = 32) -> Tensor:
    """Informative embeddings `[n, width]`: the mean of the decoder's last states over a text and its code.

    They need the decoder, so no plain folder gives them: for looking at what a model knows, not for serving.
    """
    decoder: Decoder = last_of(model, Decoder, do="make it by with_decoder")
    training, vectors = model.training, []
    model.eval()
    with torch.no_grad():
        for start in range(0, len(texts), batch_size):
            features = batch_to_device(model.preprocess(list(texts[start : start + batch_size])), model.device)
            ids, mask = features["input_ids"], features["attention_mask"]
            states = decoder.states(model({**features})["sentence_embedding"], ids, mask, words_of(model))
            weights = mask[..., None].to(states.dtype)
            vectors.append((states * weights).sum(1) / weights.sum(1).clamp(min=1))
    model.train(training)
    return torch.cat(vectors) if vectors else torch.zeros(0, decoder.width)


def words_of(model: Any) -> Tensor:
    """The word vectors of the model's transformer, `[V, width]`."""
    words: Tensor = next(model.children()).auto_model.get_input_embeddings().weight
    return words
