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

import base64
import binascii
import datetime
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
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
from llama_index.core.vector_stores.types import FilterCondition, FilterOperator, MetadataFilter, MetadataFilters
from qdrant_client import models

from diptych import Document, Hit
from diptych.errors import DocumentError, SearchError
from diptych.media import Media, RawMedia
from diptych_adapters.frameworks import (
    NO_MEDIA,
    Content,
    Opened,
    Reads,
    hit_details,
    media_details,
    media_of,
    mime_type,
    require_document,
    resource_fields,
)

_EXACT = 2**53  # integers up to here are floats without loss, so that 5 finds 5.0
_JOIN = {FilterCondition.AND: "must", FilterCondition.OR: "should", FilterCondition.NOT: "must_not"}
_BOUNDS = {FilterOperator.GT: "gt", FilterOperator.GTE: "gte", FilterOperator.LT: "lt", FilterOperator.LTE: "lte"}


def _equal_value(filter: MetadataFilter, path: str, value: Any) -> models.Filter:
    return models.Filter(must=[_equal(path, _single(filter, value))])


def _any_of(filter: MetadataFilter, path: str, value: Any) -> models.Filter:
    conditions: list[Any] = [_equal(path, item) for item in _several(filter, value)]
    return models.Filter(should=conditions or [models.HasIdCondition(has_id=[])])


def _text_match(filter: MetadataFilter, path: str, value: Any) -> models.Filter:
    if not isinstance(value, str) or not value:
        raise _unsupported(filter, "needs a text", "a text")
    return models.Filter(must=[models.FieldCondition(key=path, match=models.MatchText(text=value))])


def _equal(path: str, value: str | int | float) -> models.FieldCondition:
    if isinstance(value, float) or (isinstance(value, int) and abs(value) <= _EXACT):
        return models.FieldCondition(key=path, range=models.Range(gte=value, lte=value))
    return models.FieldCondition(key=path, match=models.MatchValue(value=value))


def _single(filter: MetadataFilter, value: Any) -> str | int | float:
    if isinstance(value, str | int | float):
        return value
    raise _unsupported(filter, "needs one value", "a text or a number; is_empty finds what is missing")


_BUILDERS: Mapping[FilterOperator, Callable[[MetadataFilter, str, Any], models.Filter]] = {
    FilterOperator.EQ: _equal_value,
    FilterOperator.CONTAINS: _equal_value,
    FilterOperator.NE: lambda filter, path, value: models.Filter(must_not=[_equal(path, _single(filter, value))]),
    FilterOperator.IN: _any_of,
    FilterOperator.ANY: _any_of,
    FilterOperator.NIN: lambda filter, path, value: models.Filter(must_not=[_any_of(filter, path, value)]),
    FilterOperator.ALL: lambda filter, path, value: models.Filter(
        must=[_equal(path, item) for item in _several(filter, value)], must_not=[_empty(path)]
    ),
    FilterOperator.TEXT_MATCH: _text_match,
    FilterOperator.TEXT_MATCH_INSENSITIVE: _text_match,
}

FIELDS = {"image": "image_resource", "sound": "audio_resource", "video": "video_resource"}
_IMAGE = "image"

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
    if "title" not in document.metadata:
        return node
    # The layout keeps titles among the metadata: without that title, where it is no more than the heading.
    bare = node.model_copy(update={"metadata": {key: own for key, own in node.metadata.items() if key != "title"}})
    return bare if _heading(bare) == document.metadata["title"] == node.metadata["title"] else node


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


def node_media(node: BaseNode, reads: Reads) -> dict[str, RawMedia]:
    """The node's media of the modalities that the collection reads.

    | node | media |
    |---|---|
    | `ImageNode.image`, `image_path`, `image_url` | `image` |
    | `image_resource`, `audio_resource`, `video_resource` of other nodes | `image`, `sound`, `video` |

    Where a node names several, the bytes count, then the path, then the URL, as in `resolve_image`. Paths start from
    the collection's `media.root`, and come back as they were given or, of documents of other origin, with the root
    before them.

    Raises:
        DocumentError: the picture of an image node is not base64.
    """
    if isinstance(node, ImageNode):
        image = _decoded(node) or node.image_path or node.image_url
        return {_IMAGE: image} if image and _IMAGE in reads.modalities else {}
    if not isinstance(node, Node):
        return {}
    found: dict[str, RawMedia] = {}
    for modality, field in FIELDS.items():
        if modality in reads.modalities and (resource := getattr(node, field)) is not None:
            data = resource.data
            found[modality] = str(resource.path or resource.url or "") if data is None else base64.b64decode(data)
    return {modality: own for modality, own in found.items() if own}


def plain_fields(document: Document, reads: Reads) -> dict[str, dict[str, Any]]:
    """For each modality that LlamaIndex knows the `data`, `path` or `url` of a resource, where there is one."""
    fields = {
        modality: resource_fields(content, reads.root)
        for modality, content in document.media.items()
        if modality in FIELDS
    }
    return {modality: part for modality, part in fields.items() if part and modality in reads.modalities}


def image_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an image node for those of a resource."""
    data = fields.get("data")
    image = {"image": base64.b64encode(data).decode(), "image_mimetype": mime_type(data)} if data else {}
    return {**image, **{f"image_{name}": part for name, part in fields.items() if name != "data"}}


def filled(content: dict[str, Any], document: Document, reads: Reads, *, of_image: bool) -> dict[str, Any]:
    """The recorded part of a node with the document's media in it, where it does not name them itself.

    Args:
        content: of the node, with the paths and URLs that it was given.
        of_image: whether it is of an image node.
    """
    for modality, fields in plain_fields(document, reads).items():
        if of_image:
            own = {name: content.get(f"image_{name}") for name in ("path", "url")}
            if modality == _IMAGE and not _names(own, document.media[modality], reads.root):
                kept = {name: value for name, value in content.items() if name not in ("image_path", "image_url")}
                content = {**image_fields(fields), "image_mimetype": None, **kept}
        else:
            own = content.get(FIELDS[modality]) or {}
            if not _names(own, document.media[modality], reads.root):
                mime = {"mimetype": own["mimetype"]} if own.get("mimetype") else {}
                content = {**content, FIELDS[modality]: {**_jsonable(fields), **mime}}
    return content


def resources(fields: Mapping[str, Mapping[str, Any]]) -> dict[str, MediaResource]:
    """The resources of a node for these fields of each modality."""
    return {FIELDS[modality]: MediaResource.model_validate(_jsonable(part)) for modality, part in fields.items()}


def _jsonable(fields: Mapping[str, Any]) -> dict[str, Any]:
    data = fields.get("data")
    return {**fields, "data": base64.b64encode(data), "mimetype": mime_type(data)} if data else dict(fields)


def _names(own: Mapping[str, Any], media: RawMedia, root: Path) -> bool:
    """Whether a node's own path or URL is the source of the media."""
    source = media.source if isinstance(media, Media) else ""
    if own.get("url"):
        return bool(source == str(own["url"]))
    paths = [own.get("path"), source]
    return all(paths) and len({os.path.realpath(root / str(path)) for path in paths}) == 1


def _decoded(node: ImageNode) -> bytes | str:
    """The picture of an image node: base64, or a data: URI."""
    image = node.image or ""
    if image[:5].lower() == "data:":
        return image
    try:
        return base64.b64decode(image, validate=True)
    except (binascii.Error, ValueError) as error:
        what, expected = "the picture of an image node is not base64", "base64, or a data: URI"
        raise DocumentError(what, where=f"node {node.node_id!r}", got=str(error), expected=expected) from error


def qdrant_filter(
    collection: Opened,
    filters: MetadataFilters | None,
    *,
    sources: Sequence[str] | None = None,
    ids: Sequence[str] | None = None,
) -> models.Filter | None:
    """The filter for all of these together, None if there is nothing to filter by.

    Args:
        filters: over the metadata of nodes.
        sources: ids of documents that nodes were split from, one of which must be the node's.
        ids: of nodes.

    Raises:
        SearchError: a filter that Qdrant cannot answer.
    """
    conditions: list[Any] = []
    if ids:
        conditions.append(collection.having(ids))
    if sources:
        path = "doc_id" if is_llama_index_own(collection) else f"{collection.field(NODE_KEY)}.{SOURCE}"
        conditions.append(models.FieldCondition(key=path, match=models.MatchAny(any=list(sources))))
    if filters is not None and filters.filters:
        conditions.append(_joined(collection, filters))
    return models.Filter(must=conditions) if conditions else None


def is_llama_index_own(collection: Opened) -> bool:
    """Whether LlamaIndex's own store filled the collection before its adoption: nodes are stored as JSON."""
    return collection.field("text") == "_node_content"


def _joined(collection: Opened, filters: MetadataFilters) -> models.Filter:
    parts: list[Any] = []
    for part in filters.filters:
        if isinstance(part, MetadataFilters):
            if part.filters:
                parts.append(_joined(collection, part))
        else:
            parts.append(_filter_condition(collection, part))
    return models.Filter(**{_JOIN[filters.condition or FilterCondition.AND]: parts})


def _filter_condition(collection: Opened, filter: MetadataFilter) -> models.Filter:
    """The condition on the payload path of this metadata key; keys that diptych reserves are stored below `_node`."""
    if is_llama_index_own(collection):
        return _condition(filter, filter.key)
    content = f"{collection.field(NODE_KEY)}.{CONTENT}"
    condition = _condition(filter, collection.field(filter.key))
    if filter.key not in RESERVED:
        return condition
    own_condition = _condition(filter, f"{collection.field(NODE_KEY)}.{OWN_METADATA}.{filter.key}")
    if filter.key != "title":
        return own_condition
    return models.Filter(
        should=[
            models.Filter(must=[own_condition], must_not=[_empty(content)]),
            models.Filter(must=[condition, _empty(content)]),
        ]
    )


def _condition(filter: MetadataFilter, path: str) -> models.Filter:
    operator, value = filter.operator, filter.value
    if operator in _BOUNDS:
        return models.Filter(must=[_bound(filter, path)])
    if operator is FilterOperator.IS_EMPTY:
        return models.Filter(should=[_empty(path), _equal(path, "")])
    build = _BUILDERS.get(operator)
    if build is None:
        raise _unsupported(filter, "is not known here", ", ".join(supported.value for supported in FilterOperator))
    return build(filter, path, value)


def _empty(path: str) -> models.IsEmptyCondition:
    return models.IsEmptyCondition(is_empty=models.PayloadField(key=path))


def _bound(filter: MetadataFilter, path: str) -> models.FieldCondition:
    value, side = filter.value, _BOUNDS[filter.operator]
    if isinstance(value, int | float):
        return models.FieldCondition(key=path, range=models.Range(**{side: value}))
    try:
        moment = datetime.datetime.fromisoformat(value if isinstance(value, str) else "")
    except ValueError:
        raise _unsupported(filter, "cannot be ordered by Qdrant", "a number, or a date as ISO 8601 writes it") from None
    return models.FieldCondition(key=path, range=models.DatetimeRange(**{side: moment}))


def _several(filter: MetadataFilter, value: Any) -> list[str | int | float]:
    if isinstance(value, list):
        return value
    raise _unsupported(filter, "needs a list", "a list of texts or numbers")


def _unsupported(filter: MetadataFilter, what: str, expected: str) -> SearchError:
    operator = getattr(filter.operator, "value", filter.operator)
    where, got = f"metadata filter on {filter.key!r}", f"{operator} {filter.value!r}"
    return SearchError(f"the filter operator {operator} {what}", where=where, got=got, expected=expected)
