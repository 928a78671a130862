"""Media of LlamaIndex's nodes: pictures of image nodes, and the resources of nodes with several kinds of content.

| node | media |
|---|---|
| `ImageNode.image`, `image_path`, `image_url` | `image` |
| `image_resource`, `audio_resource`, `video_resource` of other nodes | `image`, `sound`, `video` |

Where a node names several, the bytes count, then the path, then the URL, as in `resolve_image`. Paths start from the
collection's `media.root`, and come back as they were given or, of documents of other origin, with the root before them.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llama_index.core.schema import BaseNode, ImageNode, MediaResource, Node

from diptych import Document
from diptych.errors import DocumentError
from diptych.media import Media, RawMedia
from diptych_adapters.frameworks.media import Reads, mime_type, resource_fields

FIELDS = {"image": "image_resource", "sound": "audio_resource", "video": "video_resource"}
_IMAGE = "image"


def node_media(node: BaseNode, reads: Reads) -> dict[str, RawMedia]:
    """The node's media of the modalities that the collection reads.

    Raises:
        DocumentError: the picture of an image node is not base64.
    """
    if isinstance(node, ImageNode):
        image = _decoded(node) or node.image_path or node.image_url
        return {_IMAGE: image} if image and _IMAGE in reads.modalities else {}
    if not isinstance(node, Node):
        return {}
    resources = {modality: getattr(node, field) for modality, field in FIELDS.items() if modality in reads.modalities}
    found = {modality: _content(resource) for modality, resource in resources.items() if resource is not None}
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


def _content(resource: MediaResource) -> RawMedia:
    if resource.data is not None:
        return base64.b64decode(resource.data)
    return str(resource.path or resource.url or "")


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
