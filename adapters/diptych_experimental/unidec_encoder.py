"""Models of the recipe `unidec`: a dual encoder and a classifier as one vector, or the classifier alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from diptych.protocols import Fingerprint, Similarity
from diptych.types import Floats
from diptych_adapters.engines.backend import TRIAL
from diptych_adapters.engines.torch_graph import SingleFeature, is_plain
from diptych_adapters.models import ModelError, ModelFolder
from diptych_adapters.pipelines import fingerprints
from diptych_adapters.pipelines.library import find, load, prompts_of
from diptych_adapters.pipelines.pipeline import EncoderPipeline, Task
from diptych_adapters.pipelines.weight_checks import check_modules
from diptych_adapters.sentence_transformers import check_dense
from diptych_experimental.adapters import UniDECOptions

LABELS = "labels"  # the folder of the free vectors in an exported model
CLASSIFIER, JOINT = "classifier_embedding", "joint_embedding"  # features of the classifier's head, and of both


class BothHeads(torch.nn.Module):
    """The last step of a pipeline: the embeddings of both heads as one feature, see `joined`."""

    def forward(self, features: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The features with `JOINT`."""
        return {**features, JOINT: joined(features["sentence_embedding"], features[CLASSIFIER])}


def joined(dense: torch.Tensor, classifier: torch.Tensor) -> torch.Tensor:
    """`[..., D + C]` of both embeddings, each of unit length."""
    normal = torch.nn.functional.normalize
    return torch.cat([normal(dense, dim=-1), normal(classifier, dim=-1)], -1)


class UniDECEncoder(EncoderPipeline[Floats]):
    """Dense vectors whose inner product is the sum of two cosines: of the dual encoder and of the classifier.

    Queries have the embeddings of both heads. Documents have the dual encoder's and the free vector that the classifier
    learned for them, which is found by the text; a document that was not in the training has zeros instead, so it is
    compared by the dual encoder alone and scores at most 1 where others reach 2. With `head: classifier` vectors have
    the second part alone, and new documents score 0.

    Raises:
        ModelError: the folder was not written by the recipe.
    """

    options_model = UniDECOptions
    similarity: Similarity = "dot"
    asymmetric = True

    def __init__(self, options: UniDECOptions) -> None:
        folder = find(options)
        check_dense(folder)
        _check(folder)
        super().__init__(folder, lambda: load("SentenceTransformer", folder, options), options)
        self._prompts = prompts_of(self.model, options)
        labels = ModelFolder(folder.path / LABELS, folder.name, folder.source)
        self._digests = fingerprints.digests([*folder.module_folders(), *labels.module_folders()])
        self._table: Any = SentenceTransformer(str(labels.path), device="cpu", local_files_only=True).eval()
        check_modules(self._table, labels)
        self._classifier = options.head == "classifier"
        self._split, self._width = (
            int(encoder.get_embedding_dimension() or 0) for encoder in (self.model, self._table)
        )
        self.dimension: int = self._width if self._classifier else self._split + self._width
        module = SingleFeature(torch.nn.Sequential(self.model, BothHeads()), JOINT)
        self._run_by(
            module if is_plain(self.model, *self._prompts) else None, lambda: self._by_library(list(TRIAL), "")
        )

    @property
    def fingerprint(self) -> Fingerprint:
        """Which vectors this makes; see diptych_adapters.pipelines.fingerprints."""
        head = "classifier" if self._classifier else "joint"
        return self.fingerprint_of([f"unidec({head})"], self._prompts, self.dimension)

    @property
    def max_tokens(self) -> int | None:
        """As of `EncoderPipeline`; None with the classifier alone, which finds documents by their whole texts."""
        return None if self._classifier else super().max_tokens

    def _encode(self, inputs: Sequence[str], prompt: str, task: Task) -> Floats:
        """Vectors float32 `[n, dimension]`; those of documents with unknown texts end in zeros."""
        if task == "query":
            vectors = self._both_heads(inputs, prompt)
            return np.ascontiguousarray(vectors[:, self._split :]) if self._classifier else vectors
        rows = np.zeros((0, self._width), np.float32)
        if inputs:  # their free vectors, of unit length or 0
            with self._lock:
                rows = np.asarray(
                    self._table.encode(list(inputs), batch_size=1024, show_progress_bar=False), np.float32
                )
        if self._classifier:
            return rows
        return np.concatenate([self._both_heads(inputs, prompt)[:, : self._split], rows], 1)

    def _both_heads(self, inputs: Sequence[str], prompt: str) -> Floats:
        if not inputs:
            return np.zeros((0, self._split + self._width), np.float32)
        vectors = self.runner.encode(inputs, prompt) if self.runner else self._by_library(inputs, prompt)
        return np.ascontiguousarray(vectors, np.float32)

    def _by_library(self, inputs: Sequence[str], prompt: str) -> Floats:
        with self._lock:
            outputs: Any = self.model.encode(
                list(inputs),
                prompt=prompt,
                batch_size=self._options.library_batch_size,
                show_progress_bar=False,
                output_value=None,
            )
        rows = [joined(output["sentence_embedding"], output[CLASSIFIER]) for output in outputs]
        return torch.stack(rows).float().cpu().numpy()


def _check(folder: ModelFolder) -> None:
    """Refuse a folder without the classifier's part.

    Raises:
        ModelError: it is not there.
    """
    if not (folder.path / LABELS / "modules.json").is_file():
        raise ModelError(
            f"model {folder.name!r} has no classifier",
            where=folder.path,
            got=f"no folder {LABELS}/",
            expected="a model trained by the recipe unidec",
            do="use adapter: sentence-transformers for a plain dense model",
        )
