"""Converts a LlamaIndex node to a document and back without loss.

Text is text, metadata is metadata, and the title is what LlamaIndex encodes before the text. All else that a node has,
such as its relationships, lies in one more key of the metadata:

    {"section": "sound", "_node": {"source": "sox.txt", "content": "<JSON>", "metadata": {"title": "..."}}}

Pictures, sounds and clips of nodes are media of the document, in collections that read them (`resources`).
`metadata` holds the node's keys that diptych reserves for itself. A node that has only what a document has gets no such
key: it is the document that `Collection.populate` would have written. What a search adds to a node's metadata, the key
`diptych`, is not stored; `media` in it are the document's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from llama_index.core.schema import (
    BaseNode,
    ImageDocument,
    ImageNode,
    IndexNode,
    MediaResource,
    MetadataMode,
    Node,
    NodeRelationship,
    RelatedNodeInfo,
    TextNode,
)
from llama_index.core.schema import (
    Document as WholeDocument,
)

from diptych import Document, Hit
from diptych_adapters.frameworks.hit_details import Content, hit_details, media_details, media_of, require_document
from diptych_adapters.frameworks.media import NO_MEDIA, Reads
from diptych_adapters.llama_index.resources import filled, image_fields, node_media, plain_fields, resources

SEARCH_KEY = "diptych"  # metadata key for scores, passages, highlights and explanation, hidden from LLMs and encoders
NODE_KEY = "_node"
CONTENT, SOURCE, OWN_METADATA = "content", "source", "metadata"  # keys beneath it
RESERVED = ("text", "title", "_diptych", NODE_KEY)  # metadata keys that cannot lie at the top of a payload
_SEARCH_DETAILS = {"stages", "passages", "passage", "highlight", "media"}
_CLASSES: dict[str, type[BaseNode]] = {
    kind.class_name(): kind for kind in (TextNode, ImageNode, IndexNode, Node, WholeDocument, ImageDocument)
}


def to_document(node: BaseNode, reads: Reads = NO_MEDIA) -> Document:
    """The node as a document; `to_node` restores the same node, except for its embedding and bytes of media.

    Args:
        reads: the media that the collection's slots read; others stay among what a node has beside a document.

    Raises:
        DocumentError: it is a passage that a search returned, and not its whole document, or its picture is unreadable.
    """
    known = media_of(node.metadata.get(SEARCH_KEY))
    node = _as_before_the_search(node)
    media = {**known, **node_media(node, reads)}
    raw = node.model_dump(mode="json", exclude={"embedding"})
    metadata, text = raw["metadata"], node.get_content(metadata_mode=MetadataMode.NONE)
    plain_metadata = {key: value for key, value in metadata.items() if key not in RESERVED}
    plain = Document(node.node_id, text, _heading(node), plain_metadata, media)
    restored = _plain_node(plain, reads)
    same = restored.model_dump(mode="json", exclude={"embedding"}) == raw and list(restored.metadata) == list(metadata)
    if same:
        return plain
    return replace(plain, metadata={**plain_metadata, NODE_KEY: _stored_node(node, metadata, media)})


def to_node(document: Document, reads: Reads = NO_MEDIA) -> BaseNode:
    """The document as a node, whoever wrote it; its media are in `metadata["diptych"]`, too."""
    return _with_details(_bare_node(document, reads), media_details(document))


def _bare_node(document: Document, reads: Reads) -> BaseNode:
    stored: Any = document.metadata.get(NODE_KEY)  # whatever JSON lies there
    content = _content(stored)
    if not content:
        return _plain_node(document, reads)
    node_class = _CLASSES.get(content.pop("class_name", ""), TextNode)
    order = content.pop("metadata_keys", ())
    # The node's metadata in its order, followed by what others added.
    merged = {
        **{key: value for key, value in document.metadata.items() if key != NODE_KEY},
        **stored.get(OWN_METADATA, {}),
    }
    metadata = {key: merged[key] for key in [*order, *merged] if key in merged}
    content = filled(content, document, reads, of_image=issubclass(node_class, ImageNode))
    if "text_resource" in content:
        content["text_resource"]["text"] = document.text
    elif not issubclass(node_class, Node):
        content["text"] = document.text
    node = node_class.from_dict({**content, "id_": document.id, "metadata": metadata})
    node.excluded_embed_metadata_keys += [key for key in metadata if key not in (*order, "title")]  # was not encoded
    return _without_heading(node, document) if "title" in document.metadata else node


def hit_to_node(hit: Hit, content: Content, details: Mapping[str, Any], reads: Reads = NO_MEDIA) -> BaseNode:
    """The node of a hit, or one of its best passage; what the search says of it is in `metadata["diptych"]`.

    A passage's node has the document's metadata and relationships. The document is its parent, and its source unless it
    has one itself; `start_char_idx` and `end_char_idx` are the passage's place in the source.

    Args:
        hit: of a search.
        content: whose text the node holds.
        details: what else `metadata["diptych"]` holds.
        reads: the media that the collection's slots read.
    """
    node, own = _bare_node(hit.document, reads), {**hit_details(hit, content), **media_details(hit.document)}
    return _with_details(_passage_node(node, hit) if "passage" in own else node, {**details, **own})


def _passage_node(node: BaseNode, hit: Hit) -> TextNode:
    best, parent = hit.passages[0], RelatedNodeInfo(node_id=node.node_id)
    begin = (node.start_char_idx or 0) if isinstance(node, TextNode) else 0
    return TextNode(
        id_=f"{node.node_id}:{best.start}-{best.end}",
        text=best.text,
        metadata=node.metadata,
        excluded_embed_metadata_keys=node.excluded_embed_metadata_keys,
        excluded_llm_metadata_keys=node.excluded_llm_metadata_keys,
        relationships={NodeRelationship.SOURCE: parent, **node.relationships, NodeRelationship.PARENT: parent},
        start_char_idx=begin + best.start,
        end_char_idx=begin + best.end,
    )


def _with_details(node: BaseNode, details: Mapping[str, Any]) -> BaseNode:
    if details:
        node.metadata[SEARCH_KEY] = dict(details)
        node.excluded_embed_metadata_keys.append(SEARCH_KEY)
        node.excluded_llm_metadata_keys.append(SEARCH_KEY)
    return node


def _as_before_the_search(node: BaseNode) -> BaseNode:
    """The node without what `hit_to_node` added."""
    details = node.metadata.get(SEARCH_KEY)
    if not isinstance(details, dict) or not _SEARCH_DETAILS & set(details):
        return node  # the key is another program's
    require_document(details, where=f"node {node.node_id!r}")
    lists = {name: list(getattr(node, name)) for name in ("excluded_embed_metadata_keys", "excluded_llm_metadata_keys")}
    for keys in lists.values():
        if SEARCH_KEY in keys:
            keys.remove(SEARCH_KEY)
    metadata = {key: value for key, value in node.metadata.items() if key != SEARCH_KEY}
    return node.model_copy(update={"metadata": metadata, **lists})


def _without_heading(node: BaseNode, document: Document) -> BaseNode:
    """The node of a document whose layout keeps titles among the metadata, without that title."""
    metadata = {key: value for key, value in node.metadata.items() if key != "title"}
    bare = node.model_copy(update={"metadata": metadata})
    return bare if _heading(bare) == document.metadata["title"] == node.metadata["title"] else node


def _content(stored: Any) -> dict[str, Any]:
    """The recorded part of a node; empty if the key belongs to another program."""
    try:
        content = json.loads(stored[CONTENT])
    except (TypeError, KeyError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _plain_node(document: Document, reads: Reads) -> BaseNode:
    """A node of a plain document, an image node if it has a picture. Its title is among the metadata; keys that were
    not encoded are excluded from it.
    """
    lines, title = {key: f"{key}: {value}" for key, value in document.metadata.items()}, document.title.splitlines()
    is_header = set(title) <= set(lines.values())
    titled = {"title": document.title} if title and not is_header else {}
    excluded = [key for key, line in lines.items() if not is_header or line not in title]
    metadata = {**titled, **document.metadata}
    common: dict[str, Any] = {"id_": document.id, "metadata": metadata, "excluded_embed_metadata_keys": excluded}
    fields = plain_fields(document, reads)
    if not fields:
        return TextNode(text=document.text, **common)
    if fields.keys() == {"image"}:
        return ImageNode(text=document.text, **image_fields(fields["image"]), **common)
    return Node(text_resource=MediaResource(text=document.text), **resources(fields), **common)


def _heading(node: BaseNode) -> str:
    """The text that LlamaIndex encodes before the content; the bare title if that is the only encoded key."""
    keys = [key for key in node.metadata if key not in node.excluded_embed_metadata_keys]
    title = node.metadata.get("title")
    if keys == ["title"] and isinstance(title, str):
        return title
    return node.get_metadata_str(mode=MetadataMode.EMBED).strip()


def _stored_node(node: BaseNode, metadata: Mapping[str, Any], media: Mapping[str, Any]) -> dict[str, Any]:
    exclude = {"id_", "embedding", "metadata", "text", *(["image"] if media else [])}
    content = node.to_dict(mode="json", exclude=exclude, exclude_defaults=True)
    if isinstance(content.get("text_resource"), dict):
        content["text_resource"].pop("text", None)
    content["metadata_keys"] = list(metadata)
    own_metadata = {key: value for key, value in metadata.items() if key in RESERVED}
    source = {SOURCE: node.ref_doc_id} if node.ref_doc_id else {}
    return {
        **source,
        CONTENT: json.dumps(content, ensure_ascii=False),
        **({OWN_METADATA: own_metadata} if own_metadata else {}),
    }
