"""`Catalogue`: everything that plugins register, by name, with its source."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, Generic, TypeVar

from diptych.errors import DuplicateAdapter, HookError, UnknownAdapter
from diptych.specs import AdapterSpec, RecipeSpec

Spec = TypeVar("Spec", AdapterSpec, RecipeSpec)


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
        self._sources: dict[str, str] = {}

    def collect(self, implementations: Iterable[Any]) -> None:
        """Add what pluggy's hook implementations return.

        Raises:
            HookError: an implementation raised, or returned something else than specs.
            DuplicateAdapter: two plugins register one name.
        """
        for implementation in implementations:
            for spec in self._specs_of(implementation):
                self._add(spec, implementation.plugin_name)

    def sorted(self) -> list[Spec]:
        """All, by kind and name."""
        return sorted(self._specs.values(), key=lambda spec: (spec.kind, spec.name))

    def get(self, name: str, *, where: str = "") -> Spec:
        """The spec of this name.

        Raises:
            UnknownAdapter: there is none; the text names the nearest.
        """
        if name in self._specs:
            return self._specs[name]
        near = difflib.get_close_matches(str(name), self._specs, n=3, cutoff=0.7)
        hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
        word = self._word
        raise UnknownAdapter(
            f"no {word} is called {name!r}",
            where=where,
            expected=", ".join(sorted(self._specs)) or f"no {word} is installed",
            do=f"{hint}`diptych {word}s` lists all; the {word} of another package appears once that is installed",
        )

    def source(self, name: str) -> str:
        """The distribution or module that registered it."""
        return self._sources[self.get(name).name]

    def _add(self, spec: Spec, source: str) -> None:
        if spec.name in self._specs:
            raise DuplicateAdapter(
                f"two plugins register {_a(self._word)} called {spec.name!r}",
                where=" and ".join(sorted([self._sources[spec.name], source])),
                do="rename one of them or uninstall one of the two packages",
            )
        self._specs[spec.name] = spec
        self._sources[spec.name] = source

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
                    f"{hook} returned something else",
                    where=source,
                    got=repr(spec)[:80],
                    expected=f"an iterable of diptych.{self._form.__name__}",
                )
        return specs  # type: ignore[return-value]


def _a(word: str) -> str:
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"
