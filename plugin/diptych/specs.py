"""`AdapterSpec` and `RecipeSpec`: what a plugin declares about an adapter or recipe without importing its model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self, get_args

from pydantic import BaseModel

from diptych.errors import RegistryError
from diptych.media import MODALITIES
from diptych.protocols import Kind

ACCEPTED = ("text", *MODALITIES)
OTHER_NAMES = {"audio": "sound"}


@dataclass(frozen=True, slots=True)
class ModelWheel:
    """A distribution that contains a model, the extra that installs it, and the adapter that its name alone means."""

    distribution: str
    extra: str = ""
    adapter: str = ""

    @property
    def install(self) -> str:
        """The argument for `pip install`: `diptych[minilm]`."""
        return self.extra or self.distribution


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterSpec:
    """One adapter, as data.

    Args:
        name: the value of `adapter:` in the config file.
        kind: the contract that the made object satisfies.
        factory: `"module:attribute"`, called with the options as keyword arguments; imported only then.
        summary: one line for `diptych adapters`.
        options: `"module:attribute"` of (or itself) a pydantic model of the options. Its module must be cheap to
            import. Without one the options are checked against the factory's parameters.
        requires: modules that must be importable, such as `("torch",)`.
        instead: alternative sets of modules; any one of them can replace `requires`.
        extra: what to install when one of them is missing, such as `"diptych[torch]"`.
        facts: facts known before the model is loaded, such as `{"dimension": 384}`; the made object must agree.
        accepts: kinds of input: `"text"`; `"image"`, `"sound"` (or `"audio"`), `"video"`, `"series"`, `"points"`, which
            come decoded (`diptych.media.Content`). A config whose slot is `of` another kind is refused.
        by_modality: what it accepts with each value of its option `modality`; `accepts` lists them all.
        aliases: names that it had before, each with the options that the name alone meant. Configs and collections
            that hold such a name keep working.
        implied: options that the name alone means; only for an alias.
        remote: the adapter sends texts to a server that the user names.
        cached: vectors of documents are worth keeping on disk; False when making them is about as fast as reading.
        carried: models that distributions of their own carry, by the name that the option `model` gives.
    """

    name: str
    kind: Kind
    factory: str
    summary: str
    options: str | type[BaseModel] | None = None
    requires: tuple[str, ...] = ()
    instead: tuple[tuple[str, ...], ...] = ()
    extra: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    accepts: tuple[str, ...] = ("text",)
    by_modality: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    aliases: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    implied: Mapping[str, Any] = field(default_factory=dict)
    remote: bool = False
    cached: bool = True
    carried: Mapping[str, ModelWheel] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise RegistryError(
                f"adapter {self.name!r} has an unknown kind", got=repr(self.kind), expected=" | ".join(get_args(Kind))
            )
        if not self.name or not isinstance(self.name, str):
            raise RegistryError("an adapter has no name", got=repr(self.name), expected="a non-empty string")
        object.__setattr__(self, "accepts", tuple(OTHER_NAMES.get(kind, kind) for kind in self.accepts))
        if not self.accepts or set(self.accepts) - {*ACCEPTED}:
            raise RegistryError(
                f"adapter {self.name!r} accepts an unknown kind of input",
                got=repr(self.accepts),
                expected=" | ".join(ACCEPTED),
            )
        module, _, attribute = str(self.factory).partition(":")
        if not module or not attribute:
            raise RegistryError(
                f"adapter {self.name!r} names no factory", got=repr(self.factory), expected='"package.module:attribute"'
            )

    def with_options(self, options: Mapping[str, Any]) -> Self:
        """The spec with the kinds of input that it accepts with these `options`."""
        accepts = self.by_modality.get(str({**options, **self.implied}.get("modality")), self.accepts)
        return replace(self, accepts=accepts)

    def under(self, alias: str) -> Self:
        """The spec under an `alias`, a name that the adapter had before."""
        return replace(self, name=alias, aliases={}, implied=self.aliases[alias]).with_options({})

    def spellings(self, options: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Its name with these `options`, and each alias and options that mean the same."""
        yield self.name, {**options}
        for alias, implied in self.aliases.items():
            if all(name in options and options[name] == value for name, value in implied.items()):
                yield alias, {name: value for name, value in options.items() if name not in implied}


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeSpec:
    """One way to train an encoder or reranker, as data.

    Args:
        name: the value of `recipe:` in a recipe file.
        kind: the contract of the trained model.
        factory: `"module:attribute"`, called with the options and a progress; gives a `diptych.training.Recipe`.
        options: `"module:attribute"` of the pydantic model of a recipe file. It may import torch.
        summary: one line for `diptych train --list`.
        requires: modules that must be importable.
        extra: what to install when one of them is missing.
    """

    name: str
    kind: Kind
    factory: str
    options: str
    summary: str
    requires: tuple[str, ...] = ()
    extra: str = ""

    def __post_init__(self) -> None:
        what = f"recipe {self.name!r}"
        if self.kind not in get_args(Kind):
            raise RegistryError(f"{what} has an unknown kind", got=repr(self.kind), expected=" | ".join(get_args(Kind)))
        for role, path in (("factory", self.factory), ("options", self.options)):
            if not self.name or not all(str(path).partition(":")):
                raise RegistryError(f"{what} names no {role}", got=repr(path), expected='"package.module:attribute"')
