"""The hooks of the built-in generators `templates` and `chat`, which are imported on use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from diptych import hookimpl
from diptych.errors import ConfigError
from diptych.generation import CounterRequest, JudgeRequest, QueryRequest


class _Writer(Protocol):
    def queries(self, request: QueryRequest) -> list[list[str]]: ...

    def judge(self, request: JudgeRequest) -> list[float]: ...

    def counter(self, request: CounterRequest) -> list[str]: ...


@hookimpl
def diptych_generate_queries(request: QueryRequest) -> Sequence[Sequence[str]] | None:
    """Queries by `templates` or `chat`."""
    writer = _writer(request.generator, request.options)
    return writer.queries(request) if writer else None


@hookimpl
def diptych_judge(request: JudgeRequest) -> Sequence[float] | None:
    """Judgements by `templates` or `chat`."""
    writer = _writer(request.generator, request.options)
    return writer.judge(request) if writer else None


@hookimpl
def diptych_counterfactuals(request: CounterRequest) -> Sequence[str] | None:
    """Counter-instructions by `templates` or `chat`."""
    writer = _writer(request.generator, request.options)
    return writer.counter(request) if writer else None


def _writer(name: str, options: Mapping[str, Any]) -> _Writer | None:
    if name == "templates":
        from diptych_training.data.template_generator import Templates

        if options:
            raise ConfigError("unknown options", where="generator 'templates'", got=sorted(options), expected="none")
        return Templates()
    if name == "chat":
        from diptych_training.data.chat import chat

        return chat(options)
    return None
