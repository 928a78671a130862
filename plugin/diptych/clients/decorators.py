"""`infers` and `infers_later`: class decorators that have a client's calls resolve inference objects first.

A call keeps its signature and its description; arguments go by name or by place, as its class takes them.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from diptych.clients.inference import Resolver
from diptych.clients.inference_objects import found
from diptych.slots.encode import Side

C = TypeVar("C", bound=type[Any])
_CALLS: Mapping[str, tuple[Side, tuple[str, ...]]] = {
    "upsert": ("document", ("points",)),
    "update_vectors": ("document", ("points",)),
    "batch_update_points": ("document", ("update_operations",)),
    "query_points": ("query", ("query", "prefetch")),
    "query_points_groups": ("query", ("query", "prefetch")),
    "query_batch_points": ("query", ("requests",)),
}


def infers(client: C) -> C:
    """Have the calls of a client class replace inference objects; `_resolver` of an instance says by what."""
    for name, (side, arguments) in _CALLS.items():
        setattr(client, name, _resolving(getattr(client, name), side, arguments))
    return _with_uploads(client)


def infers_later(client: C) -> C:
    """`infers` for an asyncio client: encoding goes on in a thread, so that the event loop goes on, too."""
    for name, (side, arguments) in _CALLS.items():
        setattr(client, name, _resolving_later(getattr(client, name), side, arguments))
    return _with_uploads(client)


def _with_uploads(client: C) -> C:
    client.upload_points = _uploading(client.upload_points, "points")
    client.upload_collection = _uploading(client.upload_collection, "vectors")
    client.get_embedding_size = _sized(client.get_embedding_size)
    return client


def _resolving(plain: Callable[..., Any], side: Side, wanted: Sequence[str]) -> Callable[..., Any]:
    named = _naming(plain)

    @functools.wraps(plain)
    def call(self: Any, *args: Any, **options: Any) -> Any:
        given = named(self, *args, **options)
        return plain(self, **given | _resolved(self._resolver, given, side, wanted))

    return call


def _resolving_later(plain: Callable[..., Any], side: Side, wanted: Sequence[str]) -> Callable[..., Any]:
    named = _naming(plain)

    @functools.wraps(plain)
    async def call(self: Any, *args: Any, **options: Any) -> Any:
        given = named(self, *args, **options)
        if any(True for _ in found(_of(given, wanted))):
            given |= await asyncio.to_thread(_resolved, self._resolver, given, side, wanted)
        return await plain(self, **given)

    return call


def _uploading(plain: Callable[..., Any], argument: str) -> Callable[..., Any]:
    named = _naming(plain)

    @functools.wraps(plain)
    def call(self: Any, *args: Any, **options: Any) -> Any:
        given = named(self, *args, **options)
        columns = isinstance(given[argument], Mapping) or hasattr(given[argument], "dtype")  # of numbers, all of them
        values = given[argument] if columns else self._resolver.uploaded(given[argument])
        return plain(self, **given | {argument: values})

    return call


def _sized(plain: Callable[..., int]) -> Callable[..., int]:
    @functools.wraps(plain)
    def call(self: Any, model_name: str) -> int:
        size: int | None = self._resolver.size(model_name)
        return plain(self, model_name) if size is None else size

    return call


def _resolved(resolver: Resolver, given: Mapping[str, Any], side: Side, wanted: Sequence[str]) -> dict[str, Any]:
    resolved: dict[str, Any] = resolver.resolve(_of(given, wanted), side)
    return resolved


def _of(given: Mapping[str, Any], wanted: Sequence[str]) -> dict[str, Any]:
    return {argument: given[argument] for argument in wanted if argument in given}


def _naming(plain: Callable[..., Any]) -> Callable[..., dict[str, Any]]:
    """What gives the arguments of a call, without `self`, by their names."""
    signature = inspect.signature(plain)
    further = [parameter.name for parameter in signature.parameters.values() if parameter.kind is parameter.VAR_KEYWORD]

    def named(self: Any, *args: Any, **options: Any) -> dict[str, Any]:
        given = signature.bind(self, *args, **options).arguments
        del given["self"]
        for name in further:
            given |= given.pop(name, {})
        return given

    return named
