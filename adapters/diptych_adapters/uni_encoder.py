"""The model of Uni-Encoders, for serving and for training.

Song, He, Wu et al., "Uni-Encoder: A Fast and Accurate Response Selection Paradigm for Generation-Based Dialogue
Systems", Findings of ACL 2023. The input is one sequence, `[CLS] query [SEP] [CLS] d_1 [SEP] [CLS] d_2 [SEP] ...`. The
positions of every candidate continue where the query ends, and no candidate sees another unless attention is `square`.
A candidate's score is a linear layer averaged over its tokens.
"""

from __future__ import annotations

import inspect
import json
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from diptych.errors import ContractError
from diptych.protocols import Fingerprint, Pair
from diptych.types import Floats
from diptych_adapters.model_options import UniEncoderOptions
from diptych_adapters.models import ModelError, ModelFolder, check_safe, resolve
from diptych_adapters.pipelines import fingerprints
from diptych_adapters.pipelines.library import check_length, load_transformer

Attention: TypeAlias = Literal["isolated", "arrow", "square"]
SETTINGS = "uni_encoder.json"
SHORTEST = 8  # tokens that are left for a candidate beside the longest query
OFFSETS = {"bert": False, "electra": False, "roberta": True, "xlm-roberta": True}  # positions begin after padding's


class Settings(BaseModel):
    """How a Uni-Encoder reads, saved with its weights.

    `isolated`: the query sees only itself, a candidate sees the query and itself. So scores do not depend on the other
    candidates, and the query's states can be kept. `arrow`, as published: the query also sees all candidates.
    `square`: everything sees everything.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    attention: Attention = "isolated"
    max_length: int = Field(512, ge=2 * SHORTEST)
    query_length: int = Field(256, ge=2)

    @model_validator(mode="after")
    def _room(self) -> Self:
        if self.query_length > self.max_length - SHORTEST:
            raise ValueError(f"query_length is at most max_length - {SHORTEST}, {self.max_length - SHORTEST} here")
        return self


class QueryStates:
    """The keys and values of a query's tokens in each layer, which its candidates see before their own.

    It takes the place of transformers' cache, but never keeps what candidates add.
    """

    def __init__(self) -> None:
        self.length, self.layers = 0, list[tuple[torch.Tensor, torch.Tensor]]()

    def get_seq_length(self, *_: Any, **__: Any) -> int:
        """Tokens of the query, 0 while it is read."""
        return self.length

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer: int, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The keys and values `[B, heads, tokens, width]` that a layer sees."""
        if not self.length:
            self.layers.append((keys, values))
            return keys, values
        before = [state.expand(len(keys), -1, -1, -1) for state in self.layers[layer]]
        return torch.cat([before[0], keys], 2), torch.cat([before[1], values], 2)


class UniEncoder(torch.nn.Module):
    """Scores of candidates, from a transformer that classifies tokens with one label.

    Args:
        model: BERT, RoBERTa or ELECTRA of transformers.
        tokenizer: its fast tokenizer.
        settings: see `Settings`.
        max_tokens: of one forward pass at most.
        cached_queries: how many queries' states are kept for further candidates; none during training.

    Raises:
        ModelError: another kind of model, or lengths beyond its positions.
    """

    def __init__(
        self, model: Any, tokenizer: Any, settings: Settings, *, max_tokens: int = 16_384, cached_queries: int = 0
    ) -> None:
        super().__init__()
        self.model, self.tokenizer, self.settings, self.max_tokens = model, tokenizer, settings, max_tokens
        self._cached, self._most_cached = OrderedDict[str, QueryStates](), cached_queries
        tokenizer.truncation_side = "right"
        _check_model(model, tokenizer)
        config, shifted = model.config, OFFSETS[model.config.model_type]
        self._first_position = config.pad_token_id + 1 if shifted else 0
        self._candidate_type = min(1, config.type_vocab_size - 1)
        check_length(settings.max_length, config.max_position_embeddings - self._first_position, model.name_or_path)
        known = inspect.signature(model.base_model.forward).parameters
        self._cache = "cache" if "cache" in known else "past_key_values"

    def forward(self, pairs: Sequence[Pair]) -> torch.Tensor:
        """Scores `[n]` in the order of the pairs; those of one query are its candidates.

        Raises:
            ContractError: candidates are too long for one pass, and the attention is not `isolated`.
        """
        places: dict[str, list[int]] = {}
        for place, (query, _) in enumerate(pairs):
            places.setdefault(query, []).append(place)
        parts = [self._scored(query, [pairs[place][1] for place in own]) for query, own in places.items()]
        order = torch.tensor([place for own in places.values() for place in own])
        return torch.cat(parts)[order.argsort().to(parts[0].device)]

    def read(self, query: str) -> QueryStates:
        """The query's states that its candidates see, with `isolated` attention."""
        ids, states = self._ids([query], self.settings.query_length), QueryStates()
        length = len(ids[0])
        self._logits(ids, torch.zeros(length), torch.arange(length), torch.ones(1, 1, 1, length), states)
        states.length = length
        return states

    def packed(self, query: str, documents: Sequence[str]) -> torch.Tensor:
        """Scores `[n]` by one sequence of the query and all candidates, with any attention.

        Raises:
            ContractError: it is longer than `max_tokens`.
        """
        [asked] = self._ids([query], self.settings.query_length)
        parts = [asked, *self._ids(documents, self.settings.max_length - len(asked))]
        lengths = list(map(len, parts))
        if (total := sum(lengths)) > self.max_tokens:
            raise ContractError(
                f"the candidates of a query are too long for one pass, and in several passes {self.settings.attention} "
                "attention would give other scores",
                where=self.model.name_or_path,
                got=f"{total:,} tokens of a query and {len(documents)} candidates",
                expected=f"at most {self.max_tokens:,}",
                do="rerank fewer candidates, raise max_tokens, or train with attention: isolated",
            )
        owner = torch.repeat_interleave(torch.arange(len(parts)), torch.tensor(lengths))
        seen = (owner[:, None] == owner[None]) | (owner[None] == 0)  # what is its own, and the query
        if self.settings.attention != "isolated":
            seen |= owner[:, None] == 0
        if self.settings.attention == "square":
            seen |= True
        positions = [torch.arange(length) + (len(asked) if place else 0) for place, length in enumerate(lengths)]
        types = self._candidate_type * (owner > 0)
        [logits] = self._logits(
            [[token for part in parts for token in part]], types, torch.cat(positions), seen[None, None]
        )
        return torch.stack([part.mean() for part in logits.split(lengths)[1:]])

    def save(self, folder: Path) -> None:
        """Write weights as safetensors, config, tokenizer and settings."""
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        (folder / SETTINGS).write_text(json.dumps(self.settings.model_dump(), indent=1) + "\n", "utf-8")

    def _scored(self, query: str, documents: Sequence[str]) -> torch.Tensor:
        if self.settings.attention != "isolated":
            return self.packed(query, documents)
        states = self._cached.pop(query, None) or self.read(query)
        if self._most_cached:
            self._cached[query] = states
        if len(self._cached) > self._most_cached:
            self._cached.popitem(last=False)
        return self._beside(states, documents)

    def _beside(self, states: QueryStates, documents: Sequence[str]) -> torch.Tensor:
        """Scores `[n]`, in as few passes as `max_tokens` allows; they do not depend on the passes."""
        ids = self._ids(documents, self.settings.max_length - states.length)
        order = sorted(range(len(ids)), key=lambda place: -len(ids[place]))
        scores: list[torch.Tensor] = []
        while len(scores) < len(order):
            longest = len(ids[order[len(scores)]])
            rows = max(1, self.max_tokens // (states.length + longest))
            batch = [ids[place] for place in order[len(scores) : len(scores) + rows]]
            own = torch.tensor([[1] * len(one) + [0] * (longest - len(one)) for one in batch])
            seen = torch.cat([torch.ones(len(batch), states.length), own], 1)[:, None, None]
            types, positions = torch.full((longest,), self._candidate_type), torch.arange(longest) + states.length
            logits = self._logits(batch, types, positions, seen, states)
            own = own.to(logits.device)
            scores += [*((logits * own).sum(1) / own.sum(1))]
        return torch.stack(scores)[torch.tensor(order).argsort().to(scores[0].device)]

    def _logits(
        self,
        rows: Sequence[list[int]],
        types: torch.Tensor,
        positions: torch.Tensor,
        seen: torch.Tensor,
        states: QueryStates | None = None,
    ) -> torch.Tensor:
        """The classifier's numbers of all tokens, float32 `[B, longest]`.

        Args:
            rows: tokens, the longest row first.
            types, positions: of the tokens of a row, `[longest]`.
            seen: what a token sees, `[B or 1, 1, longest or 1, all]`.
            states: of the query, for `isolated` attention.
        """
        device, pad = self.model.device, self.model.config.pad_token_id or 0
        ids = torch.tensor([[*row, *[pad] * (len(rows[0]) - len(row))] for row in rows])
        mask = torch.zeros(seen.shape, dtype=self.model.dtype)
        mask = mask.masked_fill(~seen.bool(), torch.finfo(mask.dtype).min)
        outputs = self.model(
            input_ids=ids.to(device),
            attention_mask=mask.to(device),
            token_type_ids=types.long().expand(ids.shape).to(device),
            position_ids=(positions + self._first_position).expand(ids.shape).to(device),
            **({self._cache: states} if states is not None else {}),
        )
        logits: torch.Tensor = outputs.logits[..., 0].float()
        return logits

    def _ids(self, texts: Sequence[str], most: int) -> list[list[int]]:
        """The tokens of texts, cut to so many, special ones included."""
        encoded = self.tokenizer(list(texts), truncation=True, max_length=most, return_attention_mask=False)
        ids: list[list[int]] = encoded["input_ids"]
        return ids


def read_settings(folder: ModelFolder) -> Settings:
    """The settings of a Uni-Encoder's folder.

    Raises:
        ModelError: there are none, or they are not valid.
    """
    file = folder.path / SETTINGS
    if not file.is_file():
        got = ", ".join(map(str, folder.config().get("architectures") or [])) or "unknown architecture"
        what, expected = f"model {folder.name!r} is not a Uni-Encoder", f"a folder with {SETTINGS}"
        do = "train one with the recipe uni_encoder, or use adapter: cross-encoder for other rerankers"
        raise ModelError(what, where=folder.path, got=got, expected=expected, do=do)
    try:
        return Settings.model_validate_json(file.read_bytes())
    except ValidationError as error:
        got = "; ".join(f"{'.'.join(map(str, own['loc'])) or 'file'}: {own['msg']}" for own in error.errors())
        do = "restore the file, or train the model again"
        raise ModelError("the settings of a Uni-Encoder are not valid", where=file, got=got, do=do) from error


def _check_model(model: Any, tokenizer: Any) -> None:
    config, where = model.config, model.name_or_path
    if config.model_type not in OFFSETS:
        what, got = "this model cannot become a Uni-Encoder", f"model_type {config.model_type}"
        raise ModelError(what, where=where, got=got, expected=", ".join(OFFSETS), do="use such an encoder")
    if config.num_labels != 1:
        what, got = "the model is a classifier of tokens, not a reranker", f"{config.num_labels} labels"
        raise ModelError(what, where=where, got=got, expected="1 label")
    if len(tokenizer) > config.vocab_size or not tokenizer("")["input_ids"]:
        what, got = "the tokenizer is not the model's", f"{len(tokenizer)} tokens, {tokenizer('')['input_ids']} of ''"
        expected = f"at most {config.vocab_size} tokens, and some that begin or end a text"
        raise ModelError(what, where=where, got=got, expected=expected, do="save model and tokenizer together")


class UniEncoderReranker:
    """Serves what the recipe `uni_encoder` trains. Texts that are too long are cut.

    Raises:
        ModelError: the folder is incomplete, holds another kind of model, or its weights have other shapes.
    """

    def __init__(self, **given: Any) -> None:
        options = UniEncoderOptions(**given)
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
