"""LexLIP's first phase for text: a masked language model learns to express a text in few words of its lexicon.

The text is masked twice. The encoder fills its gaps, and of its logits `E [T, V]` over the masked text the maximum over
the tokens becomes a distribution over the lexicon, `a = softmax(max_t E)`. Mixed to `b = a sg(W)`, W the word
embeddings, that is all that a weak decoder knows beside a text with more gaps (`diptych_training.models.bottleneck`).
Loss: the encoder's cross-entropy plus the decoder's. Luo et al., "LexLIP: Lexicon-Bottlenecked Language-Image
Pre-Training", ICCV 2023; Shen et al., "LexMAE", ICLR 2023. Images are left out here.

Requirements: one column of texts; labels: none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, linear

from diptych.errors import ContractError
from diptych_training.losses.common.base import Features
from diptych_training.losses.common.resumable_draws import Draws
from diptych_training.models.bottleneck import WeakDecoder
from diptych_training.models.lexicon_head import max_logits, undecoded


class LexiconBottleneckLoss(torch.nn.Module):
    """The encoder's and the decoder's cross-entropy over what is masked, by name; the trainer adds them.

    The decoder belongs to the loss and is not saved with the model. Every gap of the encoder is one of the decoder.

    Args:
        model: SparseEncoder over a masked language model.
        encoder_masked, decoder_masked: shares of a text's tokens.
        decoder_layers: of the weak decoder.
        seed: of what is masked.

    Raises:
        ContractError: shares that are none, or a model without a masked language model or a mask token.
    """

    def __init__(
        self,
        model: Any,
        *,
        encoder_masked: float = 0.3,
        decoder_masked: float = 0.5,
        decoder_layers: int = 2,
        seed: int = 0,
    ) -> None:
        super().__init__()
        where = "LexiconBottleneckLoss"
        if not 0 < encoder_masked <= decoder_masked < 1:
            got = f"encoder {encoder_masked}, decoder {decoder_masked}"
            raise ContractError("unusable shares", where=where, got=got, expected="0 < encoder <= decoder < 1")
        self.model, self.shares = model, (encoder_masked, decoder_masked)
        if not isinstance(self._output, torch.nn.Linear) or model.tokenizer.mask_token_id is None:
            got = type(self.network).__name__
            raise ContractError("no masked language model", where=where, got=got, expected="...ForMaskedLM")
        self.decoder = WeakDecoder.beside(self.network, layers=decoder_layers)
        self._mask_id, self._special = model.tokenizer.mask_token_id, sorted(model.tokenizer.all_special_ids)
        self._draws = Draws(seed)

    @property
    def network(self) -> Any:
        """The masked language model that is trained."""
        return getattr(self._transformer, "auto_model", None)

    def forward(self, sentence_features: Iterable[Features], labels: Tensor | None = None) -> Mapping[str, Tensor]:
        """`encoder_loss` and `decoder_loss` of a batch, scalars in float32.

        Args:
            sentence_features: tokenised columns; the first is read.
        """
        features = next(iter(sentence_features))
        ids, mask = features["input_ids"], features["attention_mask"].bool()
        encoder_gaps, decoder_gaps = self.gaps(ids, mask)
        vectors = self.vectors(features, encoder_gaps)
        table = self.network.get_input_embeddings()
        distribution = max_logits(vectors, self._output, mask).softmax(1)
        bottleneck = distribution @ table.weight.detach()
        restored = self.decoder(table(ids.masked_fill(decoder_gaps, self._mask_id)), bottleneck, mask)
        return {
            "encoder_loss": cross_entropy(self._decoded(vectors[encoder_gaps]).float(), ids[encoder_gaps]),
            "decoder_loss": cross_entropy(linear(restored[decoder_gaps], table.weight).float(), ids[decoder_gaps]),
        }

    def gaps(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The tokens hidden from encoder and decoder, bool `[B, T]` each; at least one token of each text.

        Special tokens are always seen.
        """
        maskable = mask & ~torch.isin(ids, torch.tensor(self._special, device=ids.device))
        draws = torch.rand(ids.shape, generator=self._draws()).to(ids.device).masked_fill(~maskable, 2.0)
        lowest = draws == draws.min(1, keepdim=True).values
        encoder, decoder = ((lowest | (draws < share)) & maskable for share in self.shares)
        return encoder, decoder

    def vectors(self, features: Features, hidden: Tensor) -> Tensor:
        """The inputs of the encoder's decoder, `[B, T, width]`, for the masked text."""
        masked = {**features, "input_ids": features["input_ids"].masked_fill(hidden, self._mask_id)}
        with undecoded(self._output):
            vectors: Tensor = self._transformer(masked)["token_embeddings"]
        return vectors

    def get_config_dict(self) -> dict[str, Any]:
        """The settings for the model card."""
        encoder, decoder = self.shares
        return {"encoder_masked": encoder, "decoder_masked": decoder, "decoder_layers": self.decoder.depth}

    @property
    def _transformer(self) -> Any:
        return next(iter(self.model.children()))

    @property
    def _output(self) -> Any:
        network = self.network
        return network.get_output_embeddings() if hasattr(network, "get_output_embeddings") else None

    def _decoded(self, vectors: Tensor) -> Tensor:
        """Decode with the weights directly, since within `blockwise` the decoder returns its input."""
        return linear(vectors, self._output.weight, self._output.bias)
