"""Every error diptych raises on purpose, one tree.

    DiptychError
    ├── ConfigError              a config file or option that cannot be used
    ├── RegistryError            plugins and adapters
    │   ├── HookError            a misspelt hook, a wrong argument name, a plugin that cannot be imported
    │   ├── DuplicateAdapter     two plugins registered one name
    │   ├── UnknownAdapter       no plugin registered the name
    │   ├── AdapterOptionsError  options that the adapter does not take
    │   ├── MissingExtra         the packages an adapter needs are not installed
    │   └── AdapterFactoryError  the factory raised, or made something that breaks its contract
    ├── ContractError            an encoder or reranker returned what its contract forbids
    ├── AdapterCrashed           native code of an encoder or reranker panicked during a call
    ├── Overloaded               too many earlier calls of encoders have not returned
    ├── RemoteError              an encoder's HTTP endpoint failed, refused, or sent an invalid answer
    ├── StoreError
    │   ├── StoreURLError        a URL for which no store can be opened
    │   ├── StoreLocked          another process has the embedded store open
    │   ├── StoreReadOnly        a call would change a store that was opened with mode=ro
    │   ├── StoreUnavailable     the store does not answer
    │   ├── StoreDamaged         files of the embedded store were changed or damaged; the text says how to repair it
    │   ├── StoreFull            the disk has too little space; `context` has the bytes `needed` and `free`
    │   └── StoreUnsupported     this store cannot do that; the text names one that can
    ├── CollectionError
    │   ├── CollectionNotFound
    │   ├── TenantError          a tenant is missing where one is required, or named where there are none
    │   ├── NotTrusted           settings stored in the collection would send, read or run something without consent
    │   └── FingerprintMismatch  the encoder did not make the vectors in the collection
    ├── DocumentError            one bad document; populate rejects it and continues
    │   └── MediaError           a picture, sound or clip that cannot be read or is not allowed
    ├── PopulateError            populate stopped; what was acknowledged is kept
    │   └── SyncRefused          a sync would delete too large a share of the documents
    ├── CopyError                a copy of a collection that cannot be made, continued or verified
    ├── SwapError                a swap that cannot be planned, applied, rolled back or finished
    │   ├── ApplyRunning         another process applies a swap to the collection
    │   ├── StateChanged         the collection is no longer in the state that was seen
    │   └── GateFailed           the gate keeps the old encoders or settings
    ├── SearchError              a search whose query, filter or pipeline cannot be run
    │   └── DocumentNotFound     documents that were named do not exist; `context` has their `ids`
    ├── EvaluationError          judgements or runs that cannot be scored
    └── TuneError                settings that cannot be measured

Three warnings stand beside the tree: `PluginWarning`, a notification hook failed; `FollowWarning`, a process
continues with the encoders it has, as it cannot follow a cut-over, or a student is not admitted yet; and
`InsecureKeyWarning`, an API key goes over a network unencrypted.

Each error takes and prints, in this order: what happened, where, what was got, what was expected, what to do.
FingerprintMismatch prints its fingerprints, which are long, last.
"""

from __future__ import annotations

from typing import ClassVar

LONGEST = 5_000  # characters of a field: what is wrong may be a whole file


class DiptychError(Exception):
    """Base of all errors; `what`, `where`, `got`, `expected`, `do` and `context` stay readable as attributes."""

    order: ClassVar[tuple[str, ...]] = ("where", "got", "expected", "do")  # in which they are printed

    def __init__(
        self,
        what: str,
        *,
        where: object = "",
        got: object = "",
        expected: object = "",
        do: str = "",
        **context: object,
    ) -> None:
        self.what, self.do = _writable(what), _writable(do)
        self.where, self.got, self.expected = (_writable(_text_of(field)) for field in (where, got, expected))
        self.context = context
        super().__init__(self._text())

    def _text(self) -> str:
        parts = ((label, getattr(self, label)) for label in self.order)
        return "\n".join([self.what, *(f"  {label}: {value}" for label, value in parts if value)])


def brief(value: object, length: int = 80) -> str:
    """`repr(value)`, shortened; the type for values without a usable repr, such as endless nests."""
    try:
        return repr(value)[:length]
    except (ValueError, RecursionError):
        return f"a value of type {type(value).__name__}"


def _text_of(field: object) -> str:
    try:
        return str(field)[:LONGEST]
    except (ValueError, RecursionError):
        return brief(field)


def _writable(text: str) -> str:
    """The text with lone surrogates escaped, so that no error fails when it is printed, logged or sent."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


class StoreError(DiptychError):
    """Something is wrong with the store."""


class StoreLocked(StoreError):
    """Another process has the embedded store open."""


class StoreUnavailable(StoreError):
    """The store does not answer."""


class StoreDamaged(StoreError):
    """Files of the embedded store are missing or changed. `diptych doctor --repair` repairs them."""


class StoreFull(StoreError):
    """The disk of the embedded store has too little space; `context` has the bytes `needed` and `free`."""


class StoreReadOnly(StoreError):
    """The store was opened for reading, and the call would change it."""


class StoreUnsupported(StoreError):
    """This store cannot do that; the text names one that can."""


class CollectionError(DiptychError):
    """Something is wrong with a collection."""


class CollectionNotFound(CollectionError):
    """There is no collection of this name."""


class SearchError(DiptychError):
    """A search that cannot be run."""


class ConfigError(DiptychError):
    """A config file or option that cannot be used."""


class RegistryError(DiptychError):
    """Something is wrong with plugins or adapters."""


class HookError(RegistryError):
    """A plugin implements a hook that does not exist, misnames an argument, or cannot be imported."""


class DuplicateAdapter(RegistryError):
    """Two plugins registered an adapter under one name."""


class UnknownAdapter(RegistryError):
    """No plugin registered an adapter under this name."""


class AdapterOptionsError(RegistryError):
    """Options that the adapter does not take."""


class MissingExtra(RegistryError):
    """The packages that an adapter needs are not installed."""


class AdapterFactoryError(RegistryError):
    """The factory of an adapter raised, or made an object that breaks its contract."""


class ContractError(DiptychError):
    """An encoder or reranker returned something that its contract forbids."""


class AdapterCrashed(DiptychError):
    """Native code of an encoder or reranker panicked, or tried to end the process, during a call."""


class Overloaded(DiptychError):
    """Too many earlier encoder calls have not returned, so no further call was started."""


class RemoteError(DiptychError):
    """An encoder's HTTP endpoint failed, refused the request, or sent an invalid answer."""


class StoreURLError(StoreError):
    """No store can be opened for this URL."""


class TenantError(CollectionError):
    """A tenant is missing where one is required, or named in a collection without tenants."""


class FingerprintMismatch(CollectionError):
    """The encoder did not make the vectors in the collection."""

    order = ("where", "do", "got", "expected")


class NotTrusted(CollectionError):
    """Settings stored in a collection would send keys or texts, read the environment or run code without consent."""


class DocumentError(DiptychError):
    """One bad document. Populate rejects it with the reason and continues."""


class MediaError(DocumentError):
    """Media that cannot be read, are too large or not allowed. Populate rejects the document, and a query raises it.

    `media` is the `diptych.media.Media`, where it is known.
    """

    media: object = None


class PopulateError(DiptychError):
    """Populate stopped. What the store acknowledged is kept; running it again continues from there."""


class SyncRefused(PopulateError):
    """A sync would delete a larger share of the documents than `populate.max_deleted` allows. It deleted nothing.

    `context` has `deleted` (how many it would delete), `held` (of how many), `max_deleted` and `examples` of their ids.
    """


class CopyError(DiptychError):
    """A copy of a collection that cannot be made, continued or verified. What was written is kept."""


class SwapError(DiptychError):
    """A swap of encoders that cannot be planned, applied, rolled back or finished."""


class ApplyRunning(SwapError):
    """Another process or thread is applying a swap to the collection."""


class StateChanged(SwapError):
    """The collection is no longer in the state that the caller saw. Nothing was done."""


class GateFailed(SwapError):
    """The gate keeps the old encoders or settings.

    `context` has the `outcome`, which is `worse`, `undecided` or `not measured`, and the `report`.
    """


class DocumentNotFound(SearchError):
    """Documents that were named do not exist; `context` has their `ids`."""


class EvaluationError(DiptychError):
    """Judgements or runs that cannot be scored."""


class TuneError(DiptychError):
    """Settings of a collection that cannot be measured."""


class PluginWarning(UserWarning):
    """A notification hook of a plugin failed. The operation itself succeeded."""


class FollowWarning(UserWarning):
    """This process continues with the encoders it has: those of a cut-over cannot be loaded, or a student waits."""


class InsecureKeyWarning(UserWarning):
    """The API key of a Qdrant server goes over a network unencrypted."""
