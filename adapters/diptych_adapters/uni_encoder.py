"""Uni-Encoders: rerankers that read a query once, and its candidates beside it in one pass."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch

from diptych.protocols import Fingerprint, Pair
from diptych.types import Floats
from diptych_adapters.model_options import UniEncoderOptions
from diptych_adapters.models import check_safe, resolve
from diptych_adapters.pipelines import fingerprints
from diptych_adapters.pipelines.library import load_transformer
from diptych_adapters.uni_encoder_model import UniEncoder, read_settings


class UniEncoderReranker:
    """Serves what the recipe `uni_encoder` trains. Texts that are too long are cut.

    Raises:
        ModelError: the folder is incomplete, holds another kind of model, or its weights have other shapes.
    """

    def __init__(self, options: UniEncoderOptions) -> None:
        folder = resolve(options.model, revision=options.revision)
        check_safe(folder, trust_remote_code=False, allow_pickle_weights=False)
        settings = read_settings(folder)
        model, tokenizer = load_transformer("AutoModelForTokenClassification", folder, dtype=options.precision)
        device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.name, self.settings = folder.name, settings
        self.max_length: int | None = settings.max_length
        self.independent = settings.attention == "isolated"
        self.model = UniEncoder(
            model.to(device),
            tokenizer,
            settings,
            max_tokens=options.max_tokens,
            cached_queries=options.cached_queries,
        ).eval()
        self._digests = fingerprints.digests(folder.module_folders())
        self._lock = threading.Lock()

    @classmethod
    def of(cls, **options: Any) -> Self:
        """The adapter from its options as keywords, as a config file gives them."""
        return cls(UniEncoderOptions(**options))

    @property
    def fingerprint(self) -> Fingerprint:
        """Covers what the scores depend on: weights, tokenizer, attention and lengths."""
        model = self.model.model
        return fingerprints.fingerprint(
            weights=self._digests.weights,
            tokenizer=self._digests.tokenizer,
            pooling=[f"uni-encoder({self.settings.attention})", f"query-{self.settings.query_length}"],
            prompts=("", ""),
            max_length=self.max_length,
            dimension=1,
            numerics=f"torch {str(model.dtype).removeprefix('torch.')} {model.device.type}",
        )

    def predict(self, pairs: Sequence[Pair]) -> Floats:
        """Scores float32 `[n]` in the order of `pairs`, higher is better; the pairs of one query are its candidates.

        Raises:
            ContractError: the candidates are too long for one pass, and the attention is not `isolated`.
        """
        if not pairs:
            return np.zeros(0, np.float32)
        with self._lock, torch.inference_mode():
            return np.asarray(self.model(pairs).cpu().numpy(), np.float32)
