"""LlamaIndex's payloads: a node as JSON in one string, with its metadata repeated at the top level for filters.

LlamaIndex encodes a header, one line for each metadata key that the node does not exclude, followed by the text. For
diptych the header is the document's title.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

ORIGIN = "llama-index"
NODE = "_node_content"
TEXT, HEADER = f"{NODE}.text", f"{NODE}.header"
_SOURCE = "1"  # LlamaIndex's number for the relationship of a node with the document that it comes from
_REFERENCES = ("document_id", "doc_id", "ref_doc_id")
_OTHER_KEYS = ("_node_type", *_REFERENCES)
OWN = (NODE, *_OTHER_KEYS)  # what a document's metadata must leave alone


def parsed(payload: Mapping[str, Any]) -> dict[str, Any]:
    """The payload with `_node_content` parsed into text and header, and without LlamaIndex's other internal keys."""
    fields = {key: value for key, value in payload.items() if key not in _OTHER_KEYS}
    node = node_of(payload)
    if node:
        fields[NODE] = {"text": _text(node), "header": header(node)}
    return fields


def node_of(payload: Mapping[str, Any]) -> dict[str, Any]:
    """The node in a payload; empty when there is none that can be read."""
    raw = payload.get(NODE)
    try:
        node = json.loads(raw) if isinstance(raw, str) else raw
    except json.JSONDecodeError:
        return {}
    return node if isinstance(node, dict) else {}


def header(node: Mapping[str, Any]) -> str:
    """The lines that LlamaIndex encodes before the text."""
    excluded = node.get("excluded_embed_metadata_keys") or ()
    line = node.get("metadata_template") or "{key}: {value}"
    separator = node.get("metadata_separator", node.get("metadata_seperator", "\n"))  # older releases misspell it
    metadata = node.get("metadata") or {}
    lines = [_fill(line, key, value) for key, value in metadata.items() if key not in excluded]
    return str(separator).join(lines)


def is_header(title: str, metadata: Mapping[str, Any]) -> bool:
    """Whether a title only repeats metadata, as the title of a document read from such a collection does."""
    return set(title.splitlines()) <= set(header({"metadata": metadata}).splitlines())


def node_payload(
    identifier: str, point: object, text: str, metadata: Mapping[str, Any], existing: Mapping[str, Any]
) -> dict[str, Any]:
    """LlamaIndex's payload for a document: the node in `existing` with this text and metadata, or a new node."""
    node = {**(node_of(existing) or _blank(identifier, point)), "metadata": dict(metadata)}
    if isinstance(node.get("text_resource"), Mapping):
        node["text_resource"] = {**node["text_resource"], "text": text}
    else:
        node["text"] = text
    references = {key: existing.get(key, identifier) for key in _REFERENCES}
    kind = existing.get("_node_type", "TextNode")
    return {**metadata, NODE: json.dumps(node, ensure_ascii=False), "_node_type": kind, **references}


def _fill(template: str, key: str, value: object) -> str:
    """Like `str.format`, but a template from a payload can access nothing but its values."""
    return re.sub(r"\{(key|value)\}", lambda match: key if match[1] == "key" else str(value), template)


def _text(node: Mapping[str, Any]) -> str:
    """The text of a node of either class: `TextNode` has it as a key, `Node` inside a resource."""
    resource = node.get("text_resource")
    text = resource.get("text") if isinstance(resource, Mapping) else node.get("text")
    return text if isinstance(text, str) else ""


def _blank(identifier: str, point: object) -> dict[str, Any]:
    source: dict[str, Any] = {
        "node_id": identifier,
        "node_type": "4",
        "metadata": {},
        "hash": None,
        "class_name": "RelatedNodeInfo",
    }
    return {
        "id_": str(point),
        "embedding": None,
        "excluded_embed_metadata_keys": [],
        "excluded_llm_metadata_keys": [],
        "relationships": {_SOURCE: source},
        "metadata_template": "{key}: {value}",
        "metadata_separator": "\n",
        "mimetype": "text/plain",
        "text_template": "{metadata_str}\n\n{content}",
        "class_name": "TextNode",
    }
