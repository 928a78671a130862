"""`Registry`: finds plugins, checks what they register, and notifies them. `factory` creates their adapters."""

from __future__ import annotations

import copy
import difflib
import functools
import importlib.metadata
import inspect
import json
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, Generic, TypeVar

import pluggy

from diptych import hookspecs
from diptych.errors import DuplicateAdapter, HookError, PluginWarning, UnknownAdapter
from diptych.factory import make
from diptych.passages import PassageHooks
from diptych.protocols import Adapter, Calibrated, Sampling
from diptych.reports import FailureReport
from diptych.specs import AdapterSpec, RecipeSpec

Spec = TypeVar("Spec", AdapterSpec, RecipeSpec)

GROUP = "diptych"
HOOKS = tuple(sorted(name for name in vars(hookspecs) if name.startswith("diptych_")))

T = TypeVar("T")


class Registry:
    """All adapters and recipes of all plugins, by name.

    `hook` holds the hooks as callables: `registry.hook.diptych_after_search(report=...)`; `recipes` all recipes.

    Args:
        plugins: modules or objects with hook implementations, beside the installed ones.
        installed: whether to load the plugins of the entry-point group `diptych`.

    Raises:
        HookError: a plugin cannot be imported, misspells a hook or misnames an argument.
        DuplicateAdapter: two plugins register one name.
    """

    def __init__(self, *plugins: object, installed: bool = True) -> None:
        self._shared: dict[str, Adapter] | None = None
        self._require: Callable[[str, Mapping[str, Any], str], None] | None = None
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self.hook: Any = self._manager.hook
        self._adapters = Catalogue(AdapterSpec, "adapter")
        self.recipes = Catalogue(RecipeSpec, "recipe")
        for source, plugin in [*(_installed() if installed else ()), *_named(plugins)]:
            for name in HOOKS:  # a function of a hook's name without a mark would never be called
                method = getattr(plugin, name, None)
                if inspect.isroutine(method) and not hasattr(method, f"{hookspecs.PROJECT}_impl"):
                    what, do = f"{name} is not marked as a hook implementation", "write @diptych.hookimpl above it"
                    raise HookError(what, where=source, do=do, plugin=plugin)
            try:
                self._manager.register(plugin, name=source)
            except (pluggy.PluginValidationError, ValueError) as error:
                raise HookError(
                    "a plugin's hook implementation is invalid",
                    where=source,
                    got=str(error).replace("\n", " "),
                    do="see the hooks and their arguments in docs/reference/hooks.md",
                    plugin=plugin,
                ) from error
        try:
            self._manager.check_pending()
        except pluggy.PluginValidationError as error:
            raise HookError(
                "a plugin implements an unknown hook",
                where=self._manager.get_name(error.plugin) or "",
                got=str(error),
                expected=", ".join(HOOKS),
                plugin=error.plugin,
            ) from error
        self._passage_hooks = _passage_hooks(self.hook)
        self._adapters.collect(self.hook.diptych_register_adapters.get_hookimpls())
        self.recipes.collect(self.hook.diptych_register_recipes.get_hookimpls())
        self._listeners = {each.plugin_name: each for each in self.hook.diptych_listens.get_hookimpls()}

    @staticmethod
    @functools.cache
    def default() -> Registry:
        """The registry of everything installed, made once per process."""
        return Registry()

    def listening(self, name: str) -> bool:
        """Whether any plugin wants the notification hook `name` now."""
        return any(self._wants(each.plugin_name, name) for each in getattr(self.hook, name).get_hookimpls())

    def _wants(self, plugin_name: str, hook: str) -> bool:
        """Whether a plugin wants the notification now, as its `diptych_listens` says. Asked at every search."""
        listens = self._listeners.get(plugin_name)
        if listens is None:
            return True
        return bool(listens.function(hook) if listens.argnames else listens.function())

    def tell(self, name: str, report: object) -> list[str]:
        """Pass `report` to hook `name` of each plugin that wants the notification; returns one sentence per failure."""
        failures = []
        for implementation in getattr(self.hook, name).get_hookimpls():
            plugin = implementation.plugin
            if not self._wants(implementation.plugin_name, name):
                continue
            # One plugin at a time: pluggy stops at the first exception, and the other plugins must still be called.
            others = [other for other in self._manager.get_plugins() if other is not plugin]
            try:
                self._manager.subset_hook_caller(name, others)(report=report)
            except Exception as error:
                source = self._manager.get_name(plugin)
                failures.append(f"{name} of plugin {source!r} failed: {type(error).__name__}: {error}")
        return failures

    def specs(self) -> list[AdapterSpec]:
        """All adapters, by kind and name."""
        return self._adapters.sorted()

    def spec(self, name: str, *, where: str = "") -> AdapterSpec:
        """The adapter of this name.

        Args:
            name: as plugins registered it.
            where: what needs it, for error messages.

        Raises:
            UnknownAdapter: there is none; the error suggests the nearest name.
        """
        return self._adapters.get(name, where=where)

    def spellings(self, name: str, options: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
        """The adapter `name` with `options`, and all others that mean the same because the adapter was renamed."""
        try:
            spec, choice = self._adapters.present(name)
        except UnknownAdapter:
            return [(name, {**options})]
        return spec.spellings({**options, **choice})

    def source(self, name: str) -> str:
        """The distribution or module that registered the adapter `name`."""
        return self._adapters.source(name)

    def create(self, name: str, options: Mapping[str, Any] | None = None, *, where: str = "") -> Adapter:
        """Create the adapter of this name.

        Args:
            name: as plugins registered it.
            options: options of its factory; `${NAME}` in them is filled in from the environment here.
            where: what needs it, for error messages.

        Raises:
            MissingExtra, AdapterOptionsError, AdapterFactoryError: see diptych.errors.
        """
        if self._require is not None:
            self._require(name, options or {}, where or f"adapter {name!r}")
        spec = self.spec(name, where=where)
        now, choice = self._adapters.present(name)
        for option, value in choice.items():
            what = f"adapter {name!r} is called {now.name!r} now: write `adapter: {now.name}, {option}: {value}`"
            warnings.warn(what, FutureWarning, stacklevel=2)
        make_it = functools.partial(make, spec, options or {}, hooks=self._passage_hooks)
        if self._shared is None:
            return make_it(where=where or f"adapter {name!r}")
        key = json.dumps([name, options or {}], sort_keys=True, default=repr)
        if key not in self._shared:
            adapter = make_it(where=where or f"adapter {name!r}")
            if isinstance(adapter, Calibrated | Sampling):
                return adapter  # it learns from one collection's texts, so it is never shared
            self._shared[key] = adapter
        return self._shared[key]

    def sharing(self) -> Registry:
        """A copy of the registry that makes equal adapters once, for several collections that are open together."""
        shared = copy.copy(self)
        shared._shared = {}
        return shared

    def guarded(self, require: Callable[[str, Mapping[str, Any], str], None] | None) -> Registry:
        """A copy that calls `require` with adapter, options and place before it creates; None takes a guard away."""
        guarded = copy.copy(self)
        guarded._require = require
        return guarded


def _passage_hooks(hook: Any) -> PassageHooks:
    """The hooks of plugins that split documents or add context, and the names and versions of those plugins."""
    split, context = hook.diptych_split_document, hook.diptych_passage_context
    implementations = [*split.get_hookimpls(), *context.get_hookimpls()]
    names = set[str]()
    for each in implementations:
        version = ""  # of a plugin given as an object
        with suppress(importlib.metadata.PackageNotFoundError):
            version = importlib.metadata.version(each.plugin_name.partition(":")[0])
        names.add(f"{each.plugin_name} {version}")
    used = {"split": split, "context": context}
    return PassageHooks(
        **{name: each for name, each in used.items() if each.get_hookimpls()}, names=", ".join(sorted(names))
    )


def _installed() -> list[tuple[str, object]]:
    """The installed plugins by distribution name, sorted so that the order does not depend on the disk."""
    plugins = []
    for entry in sorted(importlib.metadata.entry_points(group=GROUP), key=lambda e: (e.name, e.value)):
        source = f"{entry.dist.name}:{entry.name}" if entry.dist else entry.name
        try:
            plugins.append((source, entry.load()))
        except Exception as error:
            raise HookError(
                "an installed plugin cannot be imported",
                where=f"{source} ({entry.value})",
                got=f"{type(error).__name__}: {error}",
                do="fix it or uninstall its package",
            ) from error
    return plugins


def _named(plugins: Iterable[object]) -> list[tuple[str, object]]:
    """Plugins by name, sorted. Plugins with the same name are numbered."""
    by_name: dict[str, object] = {}
    named = [(getattr(p, "__name__", None) or f"{type(p).__module__}.{type(p).__qualname__}", p) for p in plugins]
    for name, plugin in sorted(named, key=lambda pair: pair[0]):
        by_name[f"{name} ({len(by_name) + 1})" if name in by_name else name] = plugin
    return list(by_name.items())


def notifying_failure(registry: Registry, collection: str, operation: str, work: Callable[[], T]) -> T:
    """Run `work` and return its result; if it raises, plugins are notified and the error is raised again."""
    started = time.time_ns()
    try:
        return work()
    except Exception as error:
        notify_failure(registry, collection, operation, error, started)
        raise


def notify_failure(registry: Registry, collection: str, operation: str, error: Exception, started: int) -> None:
    """Notify plugins of an error. A plugin that fails is a PluginWarning."""
    if registry.listening("diptych_after_failure"):
        report = FailureReport(collection, operation, type(error).__name__, started, time.time_ns())
        for failure in registry.tell("diptych_after_failure", report):
            warnings.warn(failure, PluginWarning, stacklevel=3)


class Catalogue(Generic[Spec]):
    """All specs of one sort.

    Args:
        form: the class of the specs.
        word: what one is called in errors; `diptych <word>s` lists them.
    """

    def __init__(self, form: type[Spec], word: str) -> None:
        self._form: type[Spec] = form
        self._word = word
        self._specs: dict[str, Spec] = {}
        self._variants: dict[str, tuple[Spec, dict[str, str]]] = {}  # by a name that a variant had before
        self._sources: dict[str, str] = {}

    def collect(self, implementations: Iterable[Any]) -> None:
        """Add what pluggy's hook implementations return.

        Raises:
            HookError: an implementation raised, or returned something else than specs.
            DuplicateAdapter: two plugins register one name.
        """
        for implementation in implementations:
            for spec in self._specs_of(implementation):
                source = implementation.plugin_name
                if spec.name in self._specs:
                    article = "an" if self._word[0] in "aeiou" else "a"
                    raise DuplicateAdapter(
                        f"two plugins register {article} {self._word} called {spec.name!r}",
                        where=" and ".join(sorted([self._sources[spec.name], source])),
                        do="rename one of them or uninstall one of the two packages",
                    )
                self._specs[spec.name] = spec
                if isinstance(spec, AdapterSpec) and spec.variants:
                    values = spec.variants.specs.items()
                    self._variants |= {variant.name: (spec, {spec.variants.option: value}) for value, variant in values}
                self._sources[spec.name] = source

    def sorted(self) -> list[Spec]:
        """All, by kind and name."""
        return sorted(self._specs.values(), key=lambda spec: (spec.kind, spec.name))

    def get(self, name: str, *, where: str = "") -> Spec:
        """The spec of this name.

        Raises:
            UnknownAdapter: there is none; the text names the nearest.
        """
        spec, choice = self.present(name, where=where)
        return replace(spec.chosen(choice)[0], name=name) if choice and isinstance(spec, AdapterSpec) else spec

    def present(self, name: str, *, where: str = "") -> tuple[Spec, dict[str, str]]:
        """The spec of this name, or the one that has it as a variant, and the option that chooses the variant.

        Raises:
            UnknownAdapter: see `get`.
        """
        if name in self._specs:
            return self._specs[name], {}
        if name in self._variants:
            return self._variants[name]
        near = difflib.get_close_matches(str(name), self._specs, n=3, cutoff=0.7)
        hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
        word = self._word
        listed = "diptych train --list" if word == "recipe" else f"diptych {word}s"
        raise UnknownAdapter(
            f"no {word} is called {name!r}",
            where=where,
            expected=", ".join(sorted(self._specs)) or f"no {word} is installed",
            do=f"{hint}`{listed}` lists all; the {word} of another package appears once that is installed",
        )

    def source(self, name: str) -> str:
        """The distribution or module that registered it."""
        return self._sources[self.present(name)[0].name]

    def _specs_of(self, implementation: Any) -> list[Spec]:
        """What one plugin registers, checked to be a collection of specs."""
        hook, source = f"diptych_register_{self._word}s", implementation.plugin_name
        try:
            returned: Iterable[object] = implementation.function()
            specs = list(returned)
        except Exception as error:
            raise HookError(f"{hook} failed", where=source, got=f"{type(error).__name__}: {error}") from error
        for spec in specs:
            if not isinstance(spec, self._form):
                raise HookError(
                    f"{hook} returned an unexpected object",
                    where=source,
                    got=repr(spec)[:80],
                    expected=f"an iterable of diptych.{self._form.__name__}",
                )
        return specs  # type: ignore[return-value]
