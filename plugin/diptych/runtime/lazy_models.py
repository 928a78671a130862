"""Makes pydantic build each model of qdrant-client on first use, not all 500 when qdrant-client is imported.

Building them takes half of the import of qdrant-client, and a search uses some ten. pydantic can defer that itself
(`defer_build`); an import hook gives the module of the models a `BaseModel` that says so. What the models are and do
stays the same. A qdrant-client that is imported already, and a pydantic before 2.11, are left alone.
"""

from __future__ import annotations

import builtins
import sys
import threading
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

MODELS = "qdrant_client.http.models.models"
OLDEST = (2, 11)  # of pydantic, which defers and resolves references between deferred models since then
_building = threading.RLock()


def install() -> None:
    """Add the import hook, once per process. Call before qdrant_client is imported; later it changes nothing."""
    if MODELS not in sys.modules and not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def _deferred() -> Any:
    """A `BaseModel` whose subclasses are built on first use; `Any`, since it is created at run time."""
    from pydantic import BaseModel

    class Deferred(BaseModel, defer_build=True):
        """The base of qdrant-client's models."""

        @classmethod
        def model_rebuild(cls, *, force: bool = False, raise_errors: bool = True, **options: Any) -> bool | None:
            """Build the model on first use (`raise_errors=False`); ignores qdrant-client's call to build all models.

            One thread at a time: pydantic takes half-built parts of a model away while it builds it.
            """
            if raise_errors and not force and not options:
                return None
            with _building:
                if cls.__pydantic_complete__ and not force:
                    return None
                options["_parent_namespace_depth"] = options.get("_parent_namespace_depth", 2) + 1
                return super().model_rebuild(force=force, raise_errors=raise_errors, **options)

    return Deferred


class _Finder(MetaPathFinder):
    """Finds the one module that has the models."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != MODELS:
            return None
        import pydantic

        spec = PathFinder.find_spec(fullname, path, target)
        if spec and spec.loader and tuple(map(int, pydantic.VERSION.split(".")[:2])) >= OLDEST:
            spec.loader = _Loader(spec.loader)
        return spec


class _Pydantic(ModuleType):
    """The `pydantic` module as seen by qdrant-client's models."""

    def __init__(self) -> None:
        super().__init__("pydantic")
        self.BaseModel = _deferred()

    def __getattr__(self, name: str) -> Any:
        import pydantic

        return getattr(pydantic, name)


class _Loader(Loader):
    """Executes the module with an import statement that finds the deferred `BaseModel`."""

    def __init__(self, inner: Loader) -> None:
        self._inner, self._pydantic = inner, _Pydantic()

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._inner.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__["__builtins__"] = {**vars(builtins), "__import__": self._import}
        self._inner.exec_module(module)
        module.__dict__["__builtins__"] = builtins

    def _import(self, name: str, *arguments: Any, **options: Any) -> Any:
        return self._pydantic if name == "pydantic" else builtins.__import__(name, *arguments, **options)
