"""Imports qdrant-client, two of whose modules are made cheap. Packages that use qdrant-client import this module first.

- `qdrant_client.http.models.models`: pydantic builds each of its 500 models on first use, not all of them on import.
  Building them takes half of the import of qdrant-client, and a search uses some ten. pydantic can defer that itself
  (`defer_build`); the module gets a `BaseModel` that says so. What the models are and do stays the same.
- `qdrant_client.fastembed_common` imports FastEmbed, and onnxruntime with it, wherever they are installed: that costs
  every search a second, although diptych never has qdrant-client run a model. The module is executed as if FastEmbed
  were not installed, then gets stand-ins that import FastEmbed when they are called. So
  `QdrantClient.query_points(query=models.Document(...))` works as before, and so does `import fastembed` everywhere
  else. Only the deprecated tables of models in that module (`SUPPORTED_EMBEDDING_MODELS` and its like) stay empty.

A module or a FastEmbed that is imported already is left alone. The import hook is there only while qdrant-client is
imported.
"""

from __future__ import annotations

import builtins
import importlib
import importlib.util
import sys
import threading
from functools import partial
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

import pydantic

from diptych.runtime.vendor_telemetry import quiet

MODELS, FASTEMBED_COMMON = "qdrant_client.http.models.models", "qdrant_client.fastembed_common"
FASTEMBED = "fastembed"
CLASSES = (
    "TextEmbedding",
    "SparseTextEmbedding",
    "ImageEmbedding",
    "LateInteractionTextEmbedding",
    "LateInteractionMultimodalEmbedding",
)
_building = threading.RLock()


class _Deferred(pydantic.BaseModel, defer_build=True):
    """The base of qdrant-client's models: each is built on first use."""

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


class _DeferredModels(Loader):
    """Executes the module of models with a `pydantic` whose `BaseModel` is the deferred one."""

    def __init__(self, inner: Loader) -> None:
        self._inner = inner

    def import_(self, name: str, *arguments: Any, **options: Any) -> Any:
        """What `__import__` does within the module."""
        module = builtins.__import__(name, *arguments, **options)
        if name != "pydantic":
            return module
        stand_in = ModuleType(name)
        vars(stand_in).update(BaseModel=_Deferred, __getattr__=partial(getattr, module))
        return stand_in

    def exec_module(self, module: ModuleType) -> None:
        # The module's own builtins, not sys.modules: threads that import the same meanwhile must find it as it is.
        module.__dict__["__builtins__"] = {**vars(builtins), "__import__": self.import_}
        self._inner.exec_module(module)
        module.__dict__["__builtins__"] = builtins


class _WithoutFastEmbed(_DeferredModels):
    """Hides FastEmbed from the module of qdrant-client that imports it, then puts the stand-ins in."""

    _hidden = True

    def import_(self, name: str, *arguments: Any, **options: Any) -> Any:
        if self._hidden and name.partition(".")[0] == FASTEMBED:
            raise ImportError(f"{FASTEMBED} is imported when it is first used", name=name)
        return builtins.__import__(name, *arguments, **options)

    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        self._hidden = False  # the module's functions keep the import statement
        for name in CLASSES:
            if vars(module).get(name, module) is None:
                setattr(module, name, LazyClass(name))
        if misc := getattr(module, "FastEmbedMisc", None):
            misc.IS_INSTALLED = True  # what its is_installed() would keep after importing FastEmbed


class _Finder(MetaPathFinder):
    """Finds the two modules."""

    def find_spec(self, fullname: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname == FASTEMBED_COMMON and (FASTEMBED in sys.modules or not importlib.util.find_spec(FASTEMBED)):
            return None
        spec = PathFinder.find_spec(fullname, path, target) if fullname in (MODELS, FASTEMBED_COMMON) else None
        if spec and spec.loader:
            spec.loader = (_DeferredModels if fullname == MODELS else _WithoutFastEmbed)(spec.loader)
        return spec


class LazyClass:
    """A class of FastEmbed that is imported when it is called or an attribute of it is read."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, *args: Any, **options: Any) -> Any:
        """An object of the class."""
        return self._loaded()(*args, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loaded(), name)

    def __instancecheck__(self, instance: Any) -> bool:
        return FASTEMBED in sys.modules and isinstance(instance, self._loaded())

    def __repr__(self) -> str:
        return f"<{FASTEMBED}.{self._name}, not imported before it is used>"

    def _loaded(self) -> Any:
        quiet()  # onnxruntime comes with it
        return getattr(importlib.import_module(FASTEMBED), self._name)


if "qdrant_client" not in sys.modules:
    sys.meta_path = [_Finder(), *sys.meta_path]  # a new list: another thread may be going through the old one
    try:
        importlib.import_module("qdrant_client")
    finally:
        sys.meta_path = [finder for finder in sys.meta_path if not isinstance(finder, _Finder)]
