"""`AdapterSpec` and `RecipeSpec`: what a plugin declares about an adapter or recipe without importing its model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, get_args

from pydantic import BaseModel

from diptych.errors import AdapterOptionsError, RegistryError
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


@dataclass(frozen=True, slots=True)
class Variants:
    """What an adapter is by the value of one of its options.

    Args:
        option: the option that chooses, such as `modality`.
        specs: a spec for each value, of one kind. The default has the adapter's own name. The others have names under
            which configs and collections may hold them: they keep working, with a warning.
    """

    option: str
    specs: Mapping[str, AdapterSpec]


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterSpec:
    """One adapter, as data. `AdapterSpec.of_variants` joins several.

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
        accepts: kinds of input: `"text"`; `"image"`, `"sound"` (or `"audio"`), or `"video"`, which come
            decoded (`diptych.media.Content`). A config whose slot is `of` another kind is refused.
        variants: specs of which an option chooses one; the other facts are those of the first.
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
    variants: Variants | None = None
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

    @classmethod
    def of_variants(cls, name: str, summary: str, option: str, specs: Mapping[str, AdapterSpec]) -> AdapterSpec:
        """One adapter of which the values of `option` choose a spec; see `Variants`.

        Args:
            name: the adapter's name.
            summary: what it is, in one line.
            option: the option that chooses.
            specs: the spec that each value of the option chooses.
        """
        accepts = dict.fromkeys(kind for spec in specs.values() for kind in spec.accepts)
        first = next(iter(specs.values()))
        return replace(first, name=name, summary=summary, accepts=tuple(accepts), variants=Variants(option, specs))

    @property
    def default(self) -> str | None:
        """The value of the option that chooses, where it may be left out."""
        specs = self.variants.specs if self.variants else {}
        return next((value for value, spec in specs.items() if spec.name == self.name), None)

    def each(self) -> list[tuple[dict[str, str], AdapterSpec]]:
        """Each variant, with the option that chooses it; the spec itself if it has none."""
        if self.variants is None:
            return [({}, self)]
        return [({self.variants.option: value}, spec) for value, spec in self.variants.specs.items()]

    def chosen(self, options: Mapping[str, Any], *, where: str = "") -> tuple[AdapterSpec, dict[str, Any]]:
        """The variant that `options` choose, and the options without the one that chooses.

        Args:
            options: as a config or a program gives them.
            where: where they stand, for the error.

        Raises:
            AdapterOptionsError: they choose none.
        """
        if self.variants is None:
            return self, {**options}
        option, specs = self.variants.option, self.variants.specs
        if value := self._value(options):
            rest = {name: given for name, given in options.items() if name != option}
            return replace(specs[value], name=self.name), rest
        what, got = f"adapter {self.name!r} needs the option {option!r}", ""
        if option in options:
            what, got = f"option {option!r} of adapter {self.name!r} is not usable", repr(options[option])
        do = f"`diptych adapters {self.name}` says what they are"
        raise AdapterOptionsError(what, where=where, got=got, expected=" | ".join(specs), do=do, key=option)

    def with_options(self, options: Mapping[str, Any]) -> AdapterSpec:
        """The spec with the facts of the variant that `options` choose; unchanged if they choose none."""
        return replace(self.chosen(options)[0], variants=self.variants) if self._value(options) else self

    def spellings(self, options: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
        """Its name with these `options`, first with the one that chooses, then under the variant's name without it."""
        value = self._value(options)
        if self.variants is None or value is None:
            return [(self.name, {**options})]
        rest = {name: given for name, given in options.items() if name != self.variants.option}
        return [(self.name, {self.variants.option: value, **rest}), (self.variants.specs[value].name, rest)]

    def _value(self, options: Mapping[str, Any]) -> str | None:
        """Which variant `options` choose, None for none."""
        if self.variants is None:
            return None
        value = options.get(self.variants.option, self.default)
        return value if isinstance(value, str) and value in self.variants.specs else None


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
