"""Fingerprints of models that only their server can see."""

from __future__ import annotations

import hashlib
import json
from typing import Any, TypeAlias

from diptych.errors import RemoteError
from diptych.protocols import Fingerprint
from diptych_adapters.remote.endpoint import Endpoint
from diptych_adapters.remote.json_answers import as_text
from diptych_adapters.remote.options import RemoteDenseOptions, RemoteRerankerOptions, TeiSparseOptions

Options: TypeAlias = RemoteDenseOptions | RemoteRerankerOptions | TeiSparseOptions
_MODEL_FACTS = ("model_id", "model_sha", "model_type", "max_input_length")  # of text-embeddings-inference
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


# Of text-embeddings-inference, which tells what it serves.


def truncation(options: Options) -> dict[str, Any]:
    """The fields that control how long texts are cut."""
    direction = str(options.truncation_direction).capitalize()
    return {"truncate": options.truncate, "truncation_direction": direction}


def tei_fingerprint(endpoint: Endpoint, adapter: str, options: Options, **facts: object) -> Fingerprint:
    """The fingerprint of the served model, text truncation and `facts`; the server's precision is `numerics`."""
    info = _info(endpoint)
    model = [info.get(name) for name in _MODEL_FACTS] if info else endpoint.url.partition("://")[2]
    precision = info.get("model_dtype") or ""
    if not isinstance(precision, str) or not all(isinstance(fact, str | int | dict | None) for fact in model):
        raise endpoint.error("the server does not describe its model in a usable form", "/info", got=as_text(info))
    facts_sent = (adapter, model, truncation(options))
    documents = space(*facts_sent, document_facts(options), facts)
    return Fingerprint(space(*facts_sent, text_facts(options), facts), precision, documents)


def _info(endpoint: Endpoint) -> dict[str, Any]:
    """The server's description of itself; empty if it has no `/info`."""
    try:
        info = endpoint.get("/info")
    except RemoteError as error:
        if error.context.get("status") == 404:
            return {}
        raise
    return info if isinstance(info, dict) else {}
