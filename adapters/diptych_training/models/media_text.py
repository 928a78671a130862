"""`MediaTextNetwork` in the form that sentence-transformers' trainer takes, and a search that measures it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from torch import Tensor

from diptych_adapters.media_text.network import MediaTextNetwork
from diptych_training.data.media_items import Items
from diptych_training.models.trained_module import TrainedModule
from diptych_training.running.evaluation import HeldOutEvaluator

BATCH = 256  # inputs that are encoded at a time
LEXICON = "lexicon "  # begins the names of the lexicon's measures


class MediaTextModule(TrainedModule):
    """The network as the only module of a model. Rows of the data set are numbers; the loss looks up their inputs.

    Args:
        network: that is trained.
    """

    def __init__(self, network: MediaTextNetwork) -> None:
        super().__init__()
        self.network = network

    def preprocess(self, inputs: list[str], prompt: str | None = None, **kwargs: Any) -> dict[str, Tensor]:
        """No features: the inputs are empty."""
        return {"rows": torch.zeros(len(inputs))}

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """The features with `sentence_embedding` and `words` of their `inputs`."""
        vectors, words = self.network(features["inputs"])
        return {**features, "sentence_embedding": vectors, **({} if words is None else {"words": words})}


def media_text_model(network: MediaTextNetwork, device: str) -> SentenceTransformer:
    """A model of this module alone."""
    return SentenceTransformer(modules=[MediaTextModule(network)], device=device)


class MediaSearchEvaluator(HeldOutEvaluator):
    """Searches held-out items by the first text of each row, exactly. nDCG@10 of the dense head chooses checkpoints.

    Args:
        items: held out.
        vectors: of their first texts, float32 `[rows, dimension]`.
        bags: the terms of these texts by the lexicon's words, float32 `[rows, terms]`; None without a lexicon.
    """

    def __init__(self, items: Items, vectors: Tensor, bags: Tensor | None) -> None:
        super().__init__(None)
        self._items, self._vectors, self._bags = items, vectors, bags
        groups = dict(zip(items.places, items.groups, strict=True))
        self._places = sorted(groups)
        self._relevant = (
            items.relevant()
            .matrix([text[0] for text in items.texts], [groups[place] for place in self._places])
            .numpy()
        )

    @torch.no_grad()
    def measured(self, model: Any) -> dict[str, float]:
        """The values of a model, by measure; the lexicon's by plain words, beside the dense head's."""
        training, device = model.training, next(model.parameters()).device
        model.eval()
        form, inputs = model[0].network.shape.form, self._items.inputs[self._places]
        outputs = [model({"inputs": form.normalized(part.to(device))}) for part in inputs.split(BATCH)]
        vectors = torch.cat([output["sentence_embedding"] for output in outputs]).float().cpu()
        values = ranked(self._vectors @ vectors.T, self._relevant)
        if self._bags is not None:
            words = torch.cat([output["words"] for output in outputs]).float().cpu()
            weights = model[0].network.query_weights.detach().relu().cpu()
            of_lexicon = ranked((self._bags * weights) @ words.T, self._relevant)
            values |= {f"{LEXICON}{name}": value for name, value in of_lexicon.items()}
        model.train(training)
        return values


def ranked(scores: Tensor, relevant: NDArray[np.bool_]) -> dict[str, float]:
    """nDCG@10, R@1 and R@10 of scores `[queries, items]`, means over the queries; ties count as lost.

    R@k is the share of queries with a relevant item among the first k.
    """
    values = scores.numpy()
    order = np.argsort(np.where(relevant, np.nextafter(values, -np.inf), values) * -1, axis=1, kind="stable")
    hits = np.take_along_axis(relevant, order[:, :10], 1)
    discounts = 1 / np.log2(np.arange(2, hits.shape[1] + 2))
    ideal = np.array([discounts[: min(count, len(discounts))].sum() for count in relevant.sum(1)])
    return {
        "nDCG@10": float(((hits * discounts).sum(1) / np.maximum(ideal, 1e-9)).mean()),
        "R@1": float(hits[:, :1].any(1).mean()),
        "R@10": float(hits.any(1).mean()),
    }
