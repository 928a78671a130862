"""`MediaTextLoss`: media learn the vectors and the words of their texts.

Symmetric contrastive losses over a batch, as in ALIGN (Jia et al., ICML 2021), and over a lexicon at unit length with
FLOPS, as in LexLIP (Luo et al., ICCV 2023).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from diptych_adapters.media_text.network import MediaTextNetwork
from diptych_training.data.augmentation import VARIATIONS
from diptych_training.data.media_items import Items
from diptych_training.losses.contrastive import SHARPEST, symmetric_contrastive
from diptych_training.losses.flops import flops


class MediaTextLoss(torch.nn.Module):
    """`L_dense + w (L_words + L_text + f FLOPS)`, each L the mean of both directions' contrastive loss of the batch.

    For each row of the batch one text is drawn and the item is augmented. A text is right for every item of its
    group and for every item that has the same text. `L_dense` compares with the text encoder's vectors, `L_words`
    with the weighted words of the text, `L_text` with the weights that the lexicon's own text side gives it.

    Args:
        model: the one that is trained; its features `sentence_embedding` and `words` are those of `MediaTextNetwork`.
        network: within the model.
        items: to learn from.
        vectors: of all texts, float32 `[texts, dimension]`, at unit length.
        terms: of each text, the terms of its words; None without a lexicon.
        first: how often the drawn text is the row's first.
        augment: strength of the augmentation; see `data.augmentation`.
        tau: initial temperature; it is trained.
        weight: w.
        sparsity: f, once the ramp is over.
        ramp: steps in which f rises with their square.
    """

    steps: Tensor

    def __init__(
        self,
        model: Any,
        network: MediaTextNetwork,
        items: Items,
        vectors: Tensor,
        terms: Sequence[Sequence[int]] | None,
        *,
        first: float,
        augment: float,
        tau: float,
        weight: float,
        sparsity: float,
        ramp: int,
    ) -> None:
        super().__init__()
        self.model = model
        self._network, self._items, self._vectors, self._terms = [network], items, vectors, terms  # no child
        self._relevant = items.relevant()
        self._first, self._augment, self._weight, self._sparsity, self._ramp = first, augment, weight, sparsity, ramp
        self.log_scale = torch.nn.Parameter(torch.full((3 if terms is not None else 1,), -math.log(tau)))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, sentence_features: Iterable[Mapping[str, Tensor]], labels: Tensor) -> Tensor:
        """The loss of the rows that `labels` `[B]` names."""
        rows, device = labels.tolist(), labels.device
        texts = self._drawn(rows)
        form = self._network[0].shape.form
        inputs = form.normalized(self._items.inputs[[self._items.places[row] for row in rows]].to(device))
        outputs = self.model({"inputs": VARIATIONS[form.of](inputs, self._augment)})
        relevant = self._relevant.matrix(texts, [self._items.groups[row] for row in rows]).to(device)
        vectors = self._vectors[texts].to(device)
        scales = self.log_scale.exp().clamp(max=SHARPEST)
        loss = self._of(vectors, outputs["sentence_embedding"], relevant, scales[0])
        if self._terms is None:
            return loss
        words, network = outputs["words"], self._network[0]
        bags = torch.nn.functional.normalize(self._bags(texts, words) * network.query_weights.relu(), dim=1)
        side = network.words_of_texts(vectors)
        lexicon = self._of(bags, words, relevant, scales[1]) + self._of(side, words, relevant, scales[2])
        return loss + self._weight * (lexicon + self._penalty() * (flops(words) + flops(side)))

    def _of(self, texts: Tensor, media: Tensor, relevant: Tensor, scale: Tensor) -> Tensor:
        return symmetric_contrastive(texts.float() @ media.float().T * scale, relevant, ~relevant)

    def _penalty(self) -> float:
        """f at this step."""
        if self.training:
            self.steps += 1
        return self._sparsity * (min(1.0, int(self.steps) / self._ramp) ** 2 if self._ramp else 1.0)

    def _drawn(self, rows: Sequence[int]) -> list[int]:
        """A text of each row."""
        draws = torch.rand(len(rows), 2).tolist()
        texts = (self._items.texts[row] for row in rows)
        return [
            text[0] if len(text) == 1 or main < self._first else text[1 + int(other * (len(text) - 1))]
            for text, (main, other) in zip(texts, draws, strict=True)
        ]

    def _bags(self, texts: Sequence[int], like: Tensor) -> Tensor:
        assert self._terms is not None
        pairs = [(row, term) for row, text in enumerate(texts) for term in self._terms[text]]
        bags = torch.zeros(len(texts), like.shape[1], device=like.device)
        if pairs:
            bags[tuple(torch.tensor(pairs, device=like.device).T)] = 1.0
        return bags
