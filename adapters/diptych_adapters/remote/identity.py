"""Fingerprints of models that only their server can see."""

from __future__ import annotations

import hashlib
import json
from typing import Any, TypeAlias

from diptych_adapters.remote.options import (
    CohereOptions,
    OpenAIOptions,
    RerankApiOptions,
    TeiOptions,
    TeiRerankerOptions,
    TeiSparseOptions,
)

Options: TypeAlias = (
    OpenAIOptions | CohereOptions | TeiOptions | TeiSparseOptions | TeiRerankerOptions | RerankApiOptions
)
_TEXT_FACTS = {"query_prompt", "document_prompt", "query_fields", "document_fields", "max_characters"}


def space(*facts: object) -> str:
    """A hash of the model's name and of everything that changes its input."""
    text = json.dumps(facts, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def text_facts(options: Options) -> dict[str, Any]:
    """The options that change which text the model reads."""
    return options.model_dump(include=_TEXT_FACTS)


def document_facts(options: Options) -> dict[str, Any]:
    """The text options that concern documents."""
    return {name: value for name, value in text_facts(options).items() if not name.startswith("query_")}
