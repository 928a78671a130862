"""LexLIP's first phase for text: a masked language model learns to express a text in few words of its lexicon.

The text is masked twice. The encoder fills its gaps, and of its logits `E [T, V]` over the masked text the maximum over
the tokens becomes a distribution over the lexicon, `a = softmax(max_t E)`. Mixed to `b = a sg(W)`, W the word
embeddings, that is all that a weak decoder knows beside a text with more gaps (`diptych_experimental.bottleneck`).
Loss: the encoder's cross-entropy plus the decoder's. Luo et al., "LexLIP: Lexicon-Bottlenecked Language-Image
Pre-Training", ICCV 2023; Shen et al., "LexMAE", ICLR 2023. Images are left out here.

Requirements: one column of texts; labels: none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, linear

from diptych.errors import ContractError
from diptych_training.losses.common.base import Features, SeededDraws
from diptych_training.models.lexicon_head import max_logits, undecoded

Variant: TypeAlias = Literal["nested", "released"]
MASKED, REPLACED = 0.8, 0.9  # of the released variant's gaps: masked below, another word between


class LexiconBottleneckLoss(torch.nn.Module):
    """The encoder's and the decoder's cross-entropy over what is masked, by name; the trainer adds them.

    The decoder belongs to the loss and is not saved with the model.

    | variant | gaps | the decoder reads and writes by |
    |---|---|---|
    | nested: LexMAE's | the encoder's are among the decoder's, all masked | positions, norm and head of its own |
    | released: LexLIP's code | independent; of ten one is another word, one stays | the encoder's embeddings and head |

    Args:
        model: SparseEncoder over a masked language model.
        encoder_masked, decoder_masked: shares of a text's tokens.
        decoder_layers: of the weak decoder.
        variant: see the table.
        seed: of what is masked.

    Raises:
        ContractError: shares that are none, a model without a masked language model or a mask token, or for `released`
            one whose embeddings or head are not found.
    """

    def __init__(
        self,
        model: Any,
        *,
        encoder_masked: float = 0.3,
        decoder_masked: float = 0.5,
        decoder_layers: int = 2,
        variant: Variant = "nested",
        seed: int = 0,
    ) -> None:
        super().__init__()
        where = "LexiconBottleneckLoss"
        require_shares(encoder_masked, decoder_masked, variant)
        self.model, self.shares, self.variant = model, (encoder_masked, decoder_masked), variant
        if not isinstance(self._output, torch.nn.Linear) or model.tokenizer.mask_token_id is None:
            got = type(self.network).__name__
            raise ContractError(
                "the model is not a masked language model", where=where, got=got, expected="...ForMaskedLM"
            )
        released = variant == "released"
        self.decoder = WeakDecoder.beside(self.network, layers=decoder_layers, bare=released)
        self._parts: tuple[Any, Any] | None = parts_of(self.network) if released else None  # no submodules of the loss
        self._mask_id, self._special = model.tokenizer.mask_token_id, sorted(model.tokenizer.all_special_ids)
        self._draws = SeededDraws(seed)

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
        restored = self.decoder(self._embedded(self.hidden(ids, decoder_gaps)), bottleneck, mask)[decoder_gaps]
        return {
            "encoder_loss": cross_entropy(self._decoded(vectors[encoder_gaps]).float(), ids[encoder_gaps]),
            "decoder_loss": cross_entropy(self._written(restored, table).float(), ids[decoder_gaps]),
        }

    def gaps(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The tokens hidden from encoder and decoder, bool `[B, T]` each; at least one token of each text.

        Special tokens are always seen.
        """
        maskable = mask & ~torch.isin(ids, torch.tensor(self._special, device=ids.device))
        first = self._drawn(ids).masked_fill(~maskable, 2.0)
        second = first if self.variant == "nested" else self._drawn(ids).masked_fill(~maskable, 2.0)
        encoder, decoder = (
            ((draws == draws.min(1, keepdim=True).values) | (draws < share)) & maskable
            for draws, share in zip((first, second), self.shares, strict=True)
        )
        return encoder, decoder

    def hidden(self, ids: Tensor, gaps: Tensor) -> Tensor:
        """The ids with the gaps masked; if released as BERT does it: of ten one is another word, and one stays."""
        if self.variant == "nested":
            return ids.masked_fill(gaps, self._mask_id)
        draws, words = self._drawn(ids), (self._drawn(ids) * self._output.out_features).long()
        masked = ids.masked_fill(gaps & (draws < MASKED), self._mask_id)
        return torch.where(gaps & (draws >= MASKED) & (draws < REPLACED), words, masked)

    def vectors(self, features: Features, hidden: Tensor) -> Tensor:
        """The inputs of the encoder's decoder, `[B, T, width]`, for the masked text."""
        masked = {**features, "input_ids": self.hidden(features["input_ids"], hidden)}
        with undecoded(self._output):
            vectors: Tensor = self._transformer(masked)["token_embeddings"]
        return vectors

    def get_config_dict(self) -> dict[str, Any]:
        """The settings for the model card."""
        encoder, decoder = self.shares
        settings = {"encoder_masked": encoder, "decoder_masked": decoder, "decoder_layers": self.decoder.depth}
        return {**settings, "variant": self.variant}

    @property
    def _transformer(self) -> Any:
        return next(iter(self.model.children()))

    @property
    def _output(self) -> Any:
        network = self.network
        return network.get_output_embeddings() if hasattr(network, "get_output_embeddings") else None

    def _drawn(self, ids: Tensor) -> Tensor:
        return torch.rand(ids.shape, generator=self._draws()).to(ids.device)

    def _embedded(self, ids: Tensor) -> Tensor:
        """What the decoder reads: words, or if released the encoder's embeddings of them with their places."""
        read = self.network.get_input_embeddings() if self._parts is None else self._parts[0]
        vectors: Tensor = read(ids)
        return vectors

    def _written(self, vectors: Tensor, table: Any) -> Tensor:
        """Logits of what the decoder restored: by the word embeddings, or if released by the encoder's head."""
        if self._parts is None:
            return linear(vectors, table.weight)
        with undecoded(self._output):
            return self._decoded(self._parts[1](vectors))

    def _decoded(self, vectors: Tensor) -> Tensor:
        """Decode with the weights directly, since within `blockwise` the decoder returns its input."""
        return linear(vectors, self._output.weight, self._output.bias)


def require_shares(encoder: float, decoder: float, variant: str) -> None:
    """Raise ContractError unless the shares can be drawn by the variant, which must be one."""
    where = "LexiconBottleneckLoss"
    if variant not in ("nested", "released"):
        raise ContractError("unknown variant", where=where, got=variant, expected="nested, released")
    nested = variant == "nested"
    if not (0 < encoder < 1 and 0 < decoder < 1 and (encoder <= decoder or not nested)):
        expected = "0 < encoder <= decoder < 1" if nested else "both above 0 and below 1"
        raise ContractError(
            "unusable shares", where=where, got=f"encoder {encoder}, decoder {decoder}", expected=expected
        )


def parts_of(network: Any) -> tuple[Any, Any]:
    """What a masked language model embeds ids with, positions included, and its head, which ends with the decoder.

    Raises:
        ContractError: the model is built otherwise.
    """
    embeddings = getattr(getattr(network, "base_model", None), "embeddings", None)
    head = getattr(network, "cls", None) or getattr(network, "lm_head", None)
    if embeddings is None or head is None:
        got, do = type(network).__name__, 'use a BERT or RoBERTa, or variant: "nested"'
        what = "this model's embeddings and head are not found, by which the released variant decodes"
        raise ContractError(what, where="LexiconBottleneckLoss", got=got, do=do)
    return embeddings, head


class WeakDecoder(torch.nn.Module):
    """A few layers that fill masked text, reading in place of the first token a mixture of the words' embeddings.

    The mixture is `b = a W`, a the text's distribution over the lexicon and W the encoder's word embeddings, without
    gradient. What it writes are vectors that the same embeddings decode. Shen et al., "LexMAE", ICLR 2023; with images,
    Luo et al., "LexLIP", ICCV 2023.

    Args:
        width: of the word embeddings.
        positions: tokens of the longest text.
        layers: few, so that the mixture is needed.
        heads: of attention; must divide the width.
        dropout: within the layers.
        bare: without positions, norm and output head of its own: words come with the encoder's, whose head decodes.
    """

    def __init__(
        self,
        width: int,
        positions: int,
        *,
        layers: int = 2,
        heads: int = 2,
        dropout: float = 0.1,
        bare: bool = False,
    ) -> None:
        super().__init__()
        self.bare = bare
        if not bare:
            self.positions = torch.nn.Parameter(torch.randn(positions, width) * 0.02)
            self.norm = torch.nn.LayerNorm(width)
            self.head = torch.nn.Sequential(torch.nn.Linear(width, width), torch.nn.GELU(), torch.nn.LayerNorm(width))
        layer = torch.nn.TransformerEncoderLayer(
            width, heads, 4 * width, dropout, activation="gelu", batch_first=True, norm_first=False
        )
        self.layers = torch.nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.depth = layers

    @classmethod
    def beside(cls, network: Any, *, layers: int = 2, bare: bool = False) -> WeakDecoder:
        """A decoder for the masked language model `network`: with its width, heads and length."""
        table, config = network.get_input_embeddings(), network.config
        heads = int(getattr(config, "num_attention_heads", 0) or 2)
        return cls(table.embedding_dim, int(config.max_position_embeddings), layers=layers, heads=heads, bare=bare)

    def forward(self, words: Tensor, bottleneck: Tensor, mask: Tensor) -> Tensor:
        """Vectors `[B, T, width]`, to be decoded by the word embeddings, or those of a bare one by the encoder's head.

        Args:
            words: embeddings of the masked text, `[B, T, width]`.
            bottleneck: `[B, width]`, in place of the first token.
            mask: bool `[B, T]`, which tokens are text.
        """
        inputs = torch.cat([bottleneck[:, None], words[:, 1:]], 1)
        if not self.bare:
            inputs = self.norm(inputs + self.positions[: words.shape[1]])
        vectors: Tensor = self.layers(inputs, src_key_padding_mask=~mask)
        return vectors if self.bare else self.head(vectors)
