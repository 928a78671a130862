"""`SearchOptions`: what a search takes besides its queries, declared once.

Each key of these classes carries its type, its limits and its description. Python's keywords, the bodies of HTTP
requests, the arguments of agents' tools and the options of the frameworks' retrievers are made from them:
`check_options` reads the keywords of a call, `option_fields` gives the fields of a pydantic model.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, TypedDict, TypeVar, get_type_hints

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    create_model,
)
from pydantic.fields import FieldInfo
from qdrant_client import models

from diptych.config.section import Positive, Score
from diptych.config.stages import BoostPart, refusal
from diptych.errors import SearchError
from diptych.runtime.validation_messages import is_unicode, nearest
from diptych.search.filters import FilterLike, Where
from diptych.search.pipeline import Boost, Pipeline, Retrieve
from diptych.types import Query

MOST_CHARACTERS = 1_000_000  # of a query; documents have the same limit by default
MOST_IDS = 1000  # in `pin`, and in `exclude`
MOST_EXAMPLES = 32  # liked, and unliked: Qdrant computes every pair of a liked and an unliked one for each candidate
MOST_PASSAGES = 1000  # that a search may ask for with each hit
_LIMITS = ("k", "n", "top", "top_k", "size")  # what other libraries call the limit
BoostLike: TypeAlias = Boost | Sequence[BoostPart | Mapping[str, Any]]
T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


class ExampleText(BaseModel):
    """An example by its text, in JSON."""

    model_config = ConfigDict(extra="forbid", strict=True)

    text: Annotated[str, Field(min_length=1)]


def _example(value: Any) -> Any:
    if isinstance(value, Mapping) and [*value] == ["text"]:
        value = Query(value["text"])
    if isinstance(value, Query):
        require_queries([value])
    elif not (isinstance(value, str) and value and is_unicode(value)):
        raise ValueError('an id, or a text as Query("a text") or {"text": "a text"}')
    return value


def _keys(value: Any) -> Any:
    listed = [] if value is None or isinstance(value, bool) else _listed(value)
    if not isinstance(listed, list) or not all(isinstance(key, str) and is_unicode(key) for key in listed):
        raise ValueError("true, false or a list of keys")
    return value


def _is_one_of(*types: type, expected: str, json: Any) -> PlainValidator:
    """What another class checks further: of one of these types, in JSON of type `json`."""

    def check(value: Any) -> Any:
        if value is not None and not isinstance(value, types):
            raise ValueError(expected)
        return value

    return PlainValidator(check, json_schema_input_type=json | None)


def _listed(value: Any) -> Any:
    """The items of any sequence; what is none is left to pydantic."""
    return [*value] if isinstance(value, Sequence) and not isinstance(value, str) else value


def _once(values: Sequence[T]) -> tuple[T, ...]:
    return tuple(dict.fromkeys(values))


if TYPE_CHECKING:  # what a call may give, and below, how it is checked
    Ids: TypeAlias = Sequence[str]
    Examples: TypeAlias = Sequence[str | Query]
else:
    _Id = Annotated[str, Field(min_length=1)]
    _Example = Annotated[Any, PlainValidator(_example, json_schema_input_type=_Id | ExampleText)]
    Ids = Annotated[
        list[_Id], Field(fail_fast=True, max_length=MOST_IDS), BeforeValidator(_listed), AfterValidator(_once)
    ]
    Examples = Annotated[
        list[_Example],
        Field(fail_fast=True, max_length=MOST_EXAMPLES),
        BeforeValidator(_listed),
        AfterValidator(_once),
    ]


class ScopedOptions(TypedDict, total=False):
    """Number of hits, and the documents that are searched. In each of these classes None is the default."""

    limit: Annotated[Positive | None, Field(description="Number of hits; by default the config's.")]
    filter: Annotated[
        FilterLike | None,
        _is_one_of(models.Filter, Mapping, expected="a Filter of qdrant_client, or its JSON", json=dict[str, Any]),
        Field(
            description="Documents to search: a Qdrant filter over the metadata, such as "
            '{"must": [{"key": "section", "match": {"value": "mail"}}]}.'
        ),
    ]
    where: Annotated[
        Where | None,
        _is_one_of(Mapping, expected='a mapping: {"section": "mail"}', json=dict[str, Any]),
        Field(
            description="Short form of a filter, all of which must hold: a value, some values, or bounds by metadata "
            'key, such as {"section": "mail", "kind": ["a", "b"], "year": {"lt": 2009}}.'
        ),
    ]
    params: Annotated[
        models.SearchParams | None,
        _is_one_of(models.SearchParams, expected="qdrant_client.models.SearchParams", json=dict[str, Any]),
        Field(description="Qdrant's search parameters instead of the pipeline's, for every slot."),
    ]
    tenant: Annotated[
        str | None, Field(description="Tenant whose documents are searched, in a collection with tenants.")
    ]
    boost: Annotated[
        BoostLike | None,
        _is_one_of(Boost, Sequence, expected="Boost(...), or a list of its parts", json=list[dict[str, Any]]),
        Field(
            description="Parts that raise or lower scores by metadata, as in the config, instead of the pipeline's own "
            "boost; an empty list boosts nothing."
        ),
    ]
    pin: Annotated[
        Ids | None,
        Field(
            description="Ids of documents that come first, in this order, if they exist and match tenant and filter; "
            "instead of the config's, which apply to its own pipeline only."
        ),
    ]
    exclude: Annotated[
        Ids | None, Field(description="Ids of documents that are left out, in addition to the config's.")
    ]
    score_threshold: Annotated[
        Score | None, Field(description="Hits whose final score is lower are dropped; by default the config's.")
    ]


class ExplainOptions(ScopedOptions, total=False):
    """The options of `explain` beside query and ids."""

    pipeline: Annotated[
        Pipeline | Retrieve | str | None,
        _is_one_of(Pipeline, Retrieve, str, expected="diptych.search.Pipeline or Retrieve, or a name", json=str),
        Field(
            description="Stages instead of the config's, by name: a slot alone, such as dense, or a part of the "
            "config's pipeline as diptych evaluate shows it, such as rrf."
        ),
    ]
    like: Annotated[
        Examples | None,
        Field(description="Examples of relevant documents, by id or text; dense slots prefer documents near them."),
    ]
    unlike: Annotated[Examples | None, Field(description="Examples of documents that are not relevant, by id or text.")]


class ShownOptions(ScopedOptions, total=False):
    """The parts of documents that are returned."""

    with_payload: Annotated[
        bool | Sequence[str] | None,
        PlainValidator(_keys, json_schema_input_type=bool | list[str] | None),
        Field(description="False fetches ids only; a list only these keys: text, title and metadata."),
    ]
    passages: Annotated[
        Annotated[int, Field(ge=0, le=MOST_PASSAGES)] | None,
        Field(description="Maximum passages of each hit, where a slot has them; by default the config's."),
    ]


class GroupOptions(ExplainOptions, ShownOptions, total=False):
    """What groups of hits take besides their query and key; `limit` counts groups."""

    highlight: Annotated[
        bool | None,
        Field(description="Whether hits say which sentence and which words answer; by default the config's."),
    ]


class VectorOptions(ShownOptions, total=False):
    """What a search by vector takes besides its vector and stages."""

    offset: Annotated[Annotated[int, Field(ge=0)] | None, Field(description="Number of hits to leave out at the top.")]


class SearchOptions(GroupOptions, VectorOptions, total=False):
    """What every search takes besides its queries."""


@cache
def option_fields(kind: type = SearchOptions) -> dict[str, Any]:
    """The options as fields of a pydantic model, for `create_model`: by name the annotated type, and the default."""
    return {name: (option, None) for name, option in get_type_hints(kind, include_extras=True).items()}


def description_of(option: Any) -> str:
    """The description in one of the types of `option_fields`."""
    return next(fact.description or "" for fact in option.__metadata__ if isinstance(fact, FieldInfo))


def spelled_out(options: Mapping[str, tuple[Any, Any]]) -> Callable[[F], F]:
    """Show a function's `**options` to what reads signatures as keywords, each of a type and with a default."""

    def spell_out(function: F) -> F:
        call = signature(function, eval_str=True)
        given = [parameter for parameter in call.parameters.values() if parameter.kind != Parameter.VAR_KEYWORD]
        named = [Parameter(k, Parameter.KEYWORD_ONLY, annotation=t, default=v) for k, (t, v) in options.items()]
        function.__signature__ = call.replace(parameters=[*given, *named])  # type: ignore[attr-defined]
        return function

    return spell_out


@cache
def _model() -> type[BaseModel]:
    """Made when it is first used: pydantic builds the schema then."""
    return create_model("SearchOptions", __config__=ConfigDict(strict=True, allow_inf_nan=False), **option_fields())


def check_options(
    options: Mapping[str, Any], kind: type = SearchOptions, called: str = "search", without: Collection[str] = ()
) -> SearchOptions:
    """The options that a caller gave, checked.

    Args:
        options: the caller's.
        kind: the class that declares those which the call takes.
        called: the call's name.
        without: those of them that it does not take.

    Raises:
        TypeError: an option that the call does not take; with the one that may have been meant.
        SearchError: an option of another type, or outside of its limits.
    """
    names = [name for name in kind.__annotations__ if name not in without]
    for name in options:
        if name not in names:
            do = "did you mean 'limit'?" if name in _LIMITS else nearest(name, names) or f"it takes {', '.join(names)}"
            raise TypeError(f"{called}() got an unexpected keyword argument {name!r}: {do}")
    try:
        checked = _model().model_validate(options)
    except ValidationError as error:
        raise refusal(error, called, []) from error
    return {name: getattr(checked, name) for name in checked.model_fields_set}  # type: ignore[return-value]


def explain_options(options: Mapping[str, Any]) -> ExplainOptions:
    """Those of a search's options that decide ranks: with them and the hits' ids `explain` explains its hits."""
    return {name: options[name] for name in ExplainOptions.__annotations__ if name in options}  # type: ignore[return-value]


def require_queries(queries: Sequence[str | Query]) -> None:
    """Raise SearchError for no queries, or one that is empty or not text; only with media a text may be empty."""
    if isinstance(queries, str | Query) or not isinstance(queries, Sequence):
        raise SearchError("queries are not a list", got=type(queries).__name__, expected="a sequence of str or Query")
    if not queries:
        raise SearchError("there is no query", got="an empty list", expected="one or more queries")
    for position, query in enumerate(queries):
        where, whole = f"query {position}", query if isinstance(query, Query) else Query(query)
        text, media = whole.text, whole.media
        if not isinstance(text, str):
            raise SearchError("a query is not text", where=where, got=type(text).__name__, expected="str or Query")
        if not isinstance(media, Mapping):
            expected = "{'image': PATH, ...}"
            raise SearchError("media of a query is not a mapping", got=type(media).__name__, expected=expected)
        if not text.strip() and not media:
            raise SearchError("a query is empty", where=where, got=repr(text[:80]))
        if not is_unicode(text):
            raise SearchError("a query is not valid Unicode", where=where, got=ascii(text[:80]))
        if len(text) > MOST_CHARACTERS:
            got, expected = f"{len(text):,} characters", f"at most {MOST_CHARACTERS:,}"
            raise SearchError("a query is too long", where=where, got=got, expected=expected)
