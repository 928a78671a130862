"""The weak decoder of a lexicon bottleneck: it can only restore words that the term weights name."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


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
