"""Finds plugins and checks what they register; `factories` makes the adapters."""

from __future__ import annotations

import difflib
import functools
import importlib.metadata
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pluggy

from diptych import hookspecs
from diptych.errors import DuplicateAdapter, HookError, UnknownAdapter
from diptych.factories import make
from diptych.protocols import Adapter
from diptych.specs import AdapterSpec

GROUP = "diptych"
HOOKS = tuple(sorted(name for name in vars(hookspecs) if name.startswith("diptych_")))


class Registry:
    """All adapters of all plugins, by name.

    Args:
        plugins: modules or objects with hook implementations, beside the installed ones.
        installed: whether to load the plugins of the entry-point group `diptych`.

    Raises:
        HookError: a plugin cannot be imported, misspells a hook or misnames an argument.
        DuplicateAdapter: two plugins register one name.
    """

    def __init__(self, *plugins: object, installed: bool = True) -> None:
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self._sources: dict[str, str] = {}
        self._specs: dict[str, AdapterSpec] = {}
        for source, plugin in [*(_installed() if installed else ()), *_named(plugins)]:
            self._register(source, plugin)
        self._collect()
        self._askers = {own.plugin_name: _asker(own) for own in self._manager.hook.diptych_listens.get_hookimpls()}

    @staticmethod
    @functools.cache
    def default() -> Registry:
        """The registry of everything installed, made once per process."""
        return Registry()

    @property
    def hook(self) -> Any:
        """The hooks, to be called: `registry.hook.diptych_after_search(report=...)`."""
        return self._manager.hook

    def listening(self, name: str) -> bool:
        """Whether any plugin wants to be told by the hook `name` now."""
        for implementation in getattr(self.hook, name).get_hookimpls():
            asked = self._askers.get(implementation.plugin_name)
            if asked is None or asked(name):
                return True
        return False

    def tell(self, name: str, report: object) -> list[str]:
        """Call the hook `name` of each plugin that wants it, by itself; which failed and how, a sentence each."""
        failures = []
        for implementation in getattr(self.hook, name).get_hookimpls():
            plugin, asked = implementation.plugin, self._askers.get(implementation.plugin_name)
            if asked is not None and not asked(name):
                continue
            others = [other for other in self._manager.get_plugins() if other is not plugin]
            try:
                self._manager.subset_hook_caller(name, others)(report=report)
            except Exception as error:
                source = self._manager.get_name(plugin)
                failures.append(f"{name} of plugin {source!r} failed: {type(error).__name__}: {error}")
        return failures

    def specs(self) -> list[AdapterSpec]:
        """All adapters, by kind and name."""
        return sorted(self._specs.values(), key=lambda spec: (spec.kind, spec.name))

    def spec(self, name: str, *, where: str = "") -> AdapterSpec:
        """The adapter of this name.

        Raises:
            UnknownAdapter: there is none; the text names the nearest.
        """
        if name in self._specs:
            return self._specs[name]
        near = difflib.get_close_matches(str(name), self._specs, n=3, cutoff=0.7)
        hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
        raise UnknownAdapter(
            f"no adapter is called {name!r}",
            where=where,
            expected=", ".join(sorted(self._specs)) or "no adapter is installed",
            do=f"{hint}`diptych adapters` lists all; an adapter of another package appears once that is installed",
        )

    def source(self, name: str) -> str:
        """The distribution or module that registered the adapter."""
        return self._sources[self.spec(name).name]

    def create(self, name: str, options: Mapping[str, Any] | None = None, *, where: str = "") -> Adapter:
        """Make the adapter; `${NAME}` in its options is filled in from the environment here.

        Raises:
            MissingExtra, AdapterOptionsError, AdapterFactoryError: see diptych.errors.
        """
        return make(self.spec(name, where=where), options or {}, where=where or f"adapter {name!r}")

    def _register(self, source: str, plugin: object) -> None:
        _require_marks(source, plugin)
        try:
            self._manager.register(plugin, name=source)
        except (pluggy.PluginValidationError, ValueError) as error:
            raise HookError(
                "a plugin implements a hook wrongly",
                where=source,
                got=str(error).replace("\n", " "),
                do="see the hooks and their arguments in docs/reference/hooks.md",
                plugin=plugin,
            ) from error

    def _collect(self) -> None:
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
        for implementation in self._manager.hook.diptych_register_adapters.get_hookimpls():
            for spec in _specs_of(implementation):
                self._add(spec, implementation.plugin_name)

    def _add(self, spec: AdapterSpec, source: str) -> None:
        if spec.name in self._specs:
            raise DuplicateAdapter(
                f"two plugins register an adapter called {spec.name!r}",
                where=" and ".join(sorted([self._sources[spec.name], source])),
                do="rename one of them or uninstall one of the two packages",
            )
        self._specs[spec.name] = spec
        self._sources[spec.name] = source


def _asker(implementation: Any) -> Callable[[str], bool]:
    """A plugin's own `diptych_listens`, called at every search; it may leave its argument out."""
    function: Callable[..., bool] = implementation.function
    return function if implementation.argnames else lambda _: function()


def _require_marks(source: str, plugin: object) -> None:
    """Raise HookError when a function has a hook's name and is not marked: it would never be called."""
    for name in HOOKS:
        method = getattr(plugin, name, None)
        if inspect.isroutine(method) and not hasattr(method, f"{hookspecs.PROJECT}_impl"):
            raise HookError(
                f"{name} is not marked as a hook implementation",
                where=source,
                do="write @diptych.hookimpl above it",
                plugin=plugin,
            )


def _specs_of(implementation: Any) -> list[AdapterSpec]:
    """What one plugin registers, checked to be a collection of specs."""
    try:
        found: Iterable[object] = implementation.function()
        specs = list(found)
    except Exception as error:
        raise HookError(
            "diptych_register_adapters failed", where=implementation.plugin_name, got=f"{type(error).__name__}: {error}"
        ) from error
    for spec in specs:
        if not isinstance(spec, AdapterSpec):
            raise HookError(
                "diptych_register_adapters returned something else",
                where=implementation.plugin_name,
                got=repr(spec)[:80],
                expected="an iterable of diptych.AdapterSpec",
            )
    return specs  # type: ignore[return-value]


def _installed() -> list[tuple[str, object]]:
    """The installed plugins under the name of their distribution, sorted so that order never depends on the disk."""
    found = []
    for entry in sorted(importlib.metadata.entry_points(group=GROUP), key=lambda e: (e.name, e.value)):
        source = f"{entry.dist.name}:{entry.name}" if entry.dist else entry.name
        try:
            found.append((source, entry.load()))
        except Exception as error:
            raise HookError(
                "an installed plugin cannot be imported",
                where=f"{source} ({entry.value})",
                got=f"{type(error).__name__}: {error}",
                do="mend it or uninstall its package",
            ) from error
    return found


def _named(plugins: Iterable[object]) -> list[tuple[str, object]]:
    """Plugins under their names, sorted; a name that several have is numbered."""
    found: dict[str, object] = {}
    for name, plugin in sorted(((_describe(p), p) for p in plugins), key=lambda pair: pair[0]):
        found[f"{name} ({len(found) + 1})" if name in found else name] = plugin
    return list(found.items())


def _describe(plugin: object) -> str:
    return str(getattr(plugin, "__name__", None) or f"{type(plugin).__module__}.{type(plugin).__qualname__}")
