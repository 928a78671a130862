"""Checks a config against the adapters at hand, without importing a model, and makes its JSON Schema.

Editors complete and check `diptych.yaml` with the schema.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from diptych.config.load import parse_config, plain_values
from diptych.config.models import Config, SlotConfig
from diptych.config.problems import Location, Problem, raise_problems, shown
from diptych.config.section import fields_of
from diptych.config.stages import Rerank
from diptych.config.storage import storage_problems
from diptych.errors import AdapterOptionsError, ConfigError, RegistryError, UnknownAdapter
from diptych.factory import option_schemas, validate_options, vector_kind
from diptych.runtime.environment import interpolate
from diptych.runtime.validation_messages import nearest
from diptych.specs import AdapterSpec

if TYPE_CHECKING:
    from diptych.registry import Registry

DIALECT = "https://json-schema.org/draft/2020-12/schema"
ANY_OPTIONS: dict[str, Any] = {"additionalProperties": True}


def check_adapters(config: Config, registry: Registry) -> None:
    """Raise nothing when every adapter that `config` names exists, fits its place and takes its options.

    Raises:
        ConfigError: all that is wrong, each with its line: unknown adapters, rerankers as slots, encoders as
            rerankers, a modality or options that an adapter does not take, a slot that cannot rescore or diversify.
    """
    problems = [problem for name in config.slots for problem in _slot(config, name, registry)]
    for position, stage in enumerate(config.search.rerank):
        at, spec = ("search", "rerank", position), _find(stage.label, registry, kind="reranker")
        if not isinstance(spec, AdapterSpec):
            problems.append(_unknown((*at, "adapter"), stage.label, spec))
        elif spec.kind != "reranker":
            do = "give it a slot; search.rescore can rescore candidates with a slot"
            what = f"{spec.name!r} is not a reranker"
            problems.append(Problem((*at, "adapter"), what, f"kind {spec.kind}", do=do))
        else:
            problems += _options(spec, stage.options, at, type(stage))
    raise_problems([*problems, *_roles(config, registry)], config.source)


def check_text(text: str, registry: Registry) -> None:
    """Raise nothing when the text of a config file can be written, since diptych would read it.

    Raises:
        ConfigError: as `parse_config` and `check_adapters`.
    """
    check_adapters(parse_config(plain_values(text)), registry)


def _slot(config: Config, name: str, registry: Registry) -> Iterator[Problem]:
    slot, at = config.slots[name], ("slots", name)
    spec = _find(slot.adapter, registry, kind="encoder")
    if isinstance(spec, AdapterSpec):
        if spec.kind == "reranker":
            do = "put it under search.rerank"
            yield Problem((*at, "adapter"), f"{spec.name!r} is a reranker, no encoder", do=do)
        else:
            yield from _options(spec, slot.options, at, type(slot))
            yield from _modality(spec.with_options(slot.options), slot, at)
            yield from storage_problems(vector_kind(spec.kind, slot.options), slot.storage, at)
            yield from _student(slot, spec, registry, at)
    else:
        yield _unknown((*at, "adapter"), slot.adapter, spec)


def _modality(spec: AdapterSpec, slot: SlotConfig, at: Location) -> Iterator[Problem]:
    """That the adapter does not accept what the slot reads of a document."""
    if slot.of in spec.accepts:
        return
    accepted = " or ".join(f"of: {kind}" for kind in spec.accepts)
    if slot.of == "text":
        got, do = "of: text, the default", f"write {accepted} in the slot, or name an adapter that reads texts"
    else:
        got = f"of: {slot.of}"
        other = "leave `of` out" if "text" in spec.accepts else f"write {accepted}"
        do = f"name an adapter that reads {slot.of}, or {other}; `diptych adapters` lists all"
    yield Problem((*at, "of"), f"adapter {spec.name!r} does not read what the slot gives it", got, accepted, do)


def _student(slot: SlotConfig, documents: AdapterSpec, registry: Registry, at: Location) -> Iterator[Problem]:
    """What keeps the slot's student from making queries for vectors of the adapter `documents`."""
    student, where = slot.student, (*at, "query")
    if student is None:
        return
    if documents.kind != "dense":
        do = "leave it out"
        yield Problem(where, "only dense vectors can have a student", f"kind {documents.kind}", do=do)
        return
    spec = _find(student.adapter, registry, kind="encoder")
    if not isinstance(spec, AdapterSpec):
        yield _unknown((*where, "adapter"), student.adapter, spec)
    elif spec.kind != "dense":
        do = "name an adapter of dense encoders"
        yield Problem((*where, "adapter"), "a student makes dense vectors", f"kind {spec.kind}", do=do)
    else:
        yield from _options(spec, student.options, where, type(student))


def _find(name: str, registry: Registry, *, kind: str) -> AdapterSpec | list[str]:
    """The adapter, or the names of those that would fit the place."""
    try:
        return registry.spec(name)
    except UnknownAdapter:
        rerank = kind == "reranker"
        return sorted(spec.name for spec in registry.specs() if (spec.kind == "reranker") == rerank)


def _unknown(location: Location, name: str, known: list[str]) -> Problem:
    do = nearest(name, known) or "`diptych adapters` lists all; another package may bring it"
    return Problem(location, f"no adapter is called {name!r}", expected=", ".join(known), do=do)


def _options(spec: AdapterSpec, options: Mapping[str, Any], at: Location, section: type) -> Iterator[Problem]:
    """What the adapter's own options model has against the options; values from the environment are not shown.

    A key that neither the adapter nor the section has may be a misspelt one of the section.
    """
    try:
        validate_options(spec, interpolate(dict(options), where="config"), raw=options)
    except AdapterOptionsError as error:
        location = (*at, *str(error.context.get("key", "")).split("."))
        raw = options.get(str(location[len(at)]))
        got = shown(raw, location) if error.got else ""
        unknown = location[len(at) :] == (location[-1],) and location[-1] in options and not (error.got or error.do)
        do = nearest(str(location[-1]), fields_of(section)) if unknown else error.do
        yield Problem(location, error.what, got, error.expected, do)
    except ConfigError as error:
        key = next((key for key, value in options.items() if error.got in str(value)), "")
        yield Problem((*at, key) if key else at, error.what, error.got, error.expected, error.do)
    except RegistryError as error:
        yield Problem(at, error.what, error.got, error.expected, error.do)


def _roles(config: Config, registry: Registry) -> Iterator[Problem]:
    """Slots that a stage uses for what their kind cannot do."""
    search = config.search
    uses = (("rescore", search.rescore, ("multivector", "dense")), ("diversify", search.diversify, ("dense",)))
    for stage, section, allowed in uses:
        slot = config.slots[section.slot] if section else None
        spec = _find(slot.adapter, registry, kind="encoder") if slot else None
        kind = vector_kind(spec.kind, slot.options) if slot and isinstance(spec, AdapterSpec) else None
        if section and kind and kind not in allowed:
            what = f"slot {section.slot!r} cannot {stage}"
            got = "a vector for each passage" if slot and slot.passages and kind == "multivector" else f"kind {kind}"
            yield Problem(("search", stage, "slot"), what, got, f"kind {' or '.join(allowed)}")


def json_schema(registry: Registry) -> dict[str, Any]:
    """The schema; an adapter that is not in `registry` may have any options."""
    schema = Config.model_json_schema()
    definitions = schema["$defs"]
    specs = registry.specs()
    encoders = [spec for spec in specs if spec.kind != "reranker"]
    rerankers = [spec for spec in specs if spec.kind == "reranker"]
    for model, fitting in ((SlotConfig, encoders), (Rerank, rerankers)):
        # One schema per adapter, told apart by the adapter's name, and one for all other names.
        base, choices = definitions[model.__name__], list[dict[str, Any]]()
        for spec in fitting:
            schemas: list[dict[str, Any] | None] = [None]
            with suppress(RegistryError):  # where the options cannot be imported, any are allowed
                schemas = option_schemas(spec)
            for number, options in enumerate(schemas):
                name = f"{model.__name__}.{spec.name}" + (f".{number}" if number else "")
                definitions[name] = _with_options(base, spec, options, definitions)
                choices.append({"$ref": f"#/$defs/{name}"})
        other = {"type": "string", "not": {"enum": [spec.name for spec in fitting]}}
        properties = {**base["properties"], "adapter": other}
        choices.append({"type": "object", "properties": properties, "required": ["adapter"], **ANY_OPTIONS})
        definitions[model.__name__] = {"description": base["description"], "oneOf": choices}
    return {"$schema": DIALECT, **schema, "title": "diptych.yaml"}


def _with_options(
    base: dict[str, Any], spec: AdapterSpec, options: dict[str, Any] | None, definitions: dict[str, Any]
) -> dict[str, Any]:
    properties = base["properties"]
    adapter: dict[str, Any] = {"const": spec.name, "description": spec.summary}
    result: dict[str, Any] = {"type": "object", "description": spec.summary, "required": ["adapter"]}
    if options is None:
        any_options = {"properties": {**properties, "adapter": adapter}, **ANY_OPTIONS}
        return {**result, **any_options}
    definitions.update(options.pop("$defs", {}))
    required = [*base["required"], *options.get("required", [])]
    own = {name: value for name, value in options.get("properties", {}).items() if name not in properties}
    merged = {**properties, "adapter": adapter, **own}
    return {**result, "properties": merged, "required": required, "additionalProperties": False}
