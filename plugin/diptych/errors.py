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
    ├── AdapterCrashed           native code of an encoder or reranker panicked in the middle of a call
    ├── Overloaded               too many earlier calls of encoders have not returned
    ├── RemoteError              an encoder's HTTP endpoint failed, refused or answered nonsense
    ├── StoreError
    │   ├── StoreURLError        a store URL that nobody answers for
    │   ├── StoreLocked          another process has the embedded store open
    │   ├── StoreReadOnly        a call would change a store that was opened with mode=ro
    │   ├── StoreUnavailable     the store does not answer
    │   ├── StoreDamaged         files of the embedded store are not as they were left; the text says how to repair it
    │   ├── StoreFull            the disk has too little space; `context` has the bytes `needed` and `free`
    │   └── StoreUnsupported     this store cannot do that; the text names one that can
    ├── CollectionError
    │   ├── CollectionNotFound
    │   ├── TenantError          a question without a tenant where it needs one, or with one where there are none
    │   └── FingerprintMismatch  the encoder at hand did not make the vectors in the collection
    ├── DocumentError            one bad document; populate sets it aside and goes on
    ├── PopulateError            populate stopped; what was acknowledged is kept
    │   └── SyncRefused          a sync would delete too large a share of the documents
    ├── CopyError                a copy of a collection that cannot be made, gone on with or verified
    ├── SwapError                a swap that cannot be planned, applied, rolled back or finished as asked
    │   ├── ApplyRunning         another process applies a swap to the collection
    │   └── GateFailed           the new encoders did not pass; the old ones stay live
    ├── SearchError              a search that cannot be run as asked
    ├── EvaluationError          judgements or runs that cannot be scored
    └── TuneError                settings that cannot be measured

Beside the tree, `PluginWarning` says that a plugin failed which is only told what happened, `FollowWarning` that a
process cannot follow a cut-over and goes on with the encoders it has.

Each takes what happened, then where, what was found, what was expected and what to do, and says them in that order.
"""

from __future__ import annotations

from qdrant_edge_client.errors import (
    CollectionError as CollectionError,
)
from qdrant_edge_client.errors import (
    CollectionNotFound as CollectionNotFound,
)
from qdrant_edge_client.errors import (
    DiptychError as DiptychError,
)
from qdrant_edge_client.errors import (
    SearchError as SearchError,
)
from qdrant_edge_client.errors import (
    StoreDamaged as StoreDamaged,
)
from qdrant_edge_client.errors import (
    StoreError as StoreError,
)
from qdrant_edge_client.errors import (
    StoreFull as StoreFull,
)
from qdrant_edge_client.errors import (
    StoreLocked as StoreLocked,
)
from qdrant_edge_client.errors import (
    StoreReadOnly as StoreReadOnly,
)
from qdrant_edge_client.errors import (
    StoreUnavailable as StoreUnavailable,
)
from qdrant_edge_client.errors import (
    StoreUnsupported as StoreUnsupported,
)
from qdrant_edge_client.errors import (
    brief as brief,
)


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
    """Native code of an encoder or reranker panicked, or tried to end the process, in the middle of a call."""


class Overloaded(DiptychError):
    """Too many earlier calls of encoders have not returned, so no further one is begun."""


class RemoteError(DiptychError):
    """An encoder's HTTP endpoint failed, refused or answered something that is no answer."""


class StoreURLError(StoreError):
    """A store URL that nobody answers for."""


class TenantError(CollectionError):
    """A question that names no tenant where it must, or one where there are none."""


class FingerprintMismatch(CollectionError):
    """The encoder at hand did not make the vectors that are in the collection."""


class DocumentError(DiptychError):
    """One bad document. Populate sets it aside with the reason and goes on."""


class PopulateError(DiptychError):
    """Populate stopped. What the store acknowledged is kept; running it again goes on from there."""


class SyncRefused(PopulateError):
    """A sync would delete a larger share of the documents than `populate.max_deleted` allows. It deleted nothing.

    `context` has `deleted` (how many would go), `held` (of how many), `max_deleted` and `examples` of their ids.
    """


class CopyError(DiptychError):
    """A copy of a collection that cannot be made, gone on with or verified. What was written is kept."""


class SwapError(DiptychError):
    """A swap of encoders that cannot be planned, applied, rolled back or finished as asked."""


class ApplyRunning(SwapError):
    """Another process, or another thread of this one, is applying a swap to the collection."""


class GateFailed(SwapError):
    """The new encoders did not pass the gate; the old ones stay live."""


class EvaluationError(DiptychError):
    """Judgements or runs that cannot be scored."""


class TuneError(DiptychError):
    """Settings of a collection that cannot be measured."""


class PluginWarning(UserWarning):
    """A plugin's hook failed that is only told what happened; what happened stands."""


class FollowWarning(UserWarning):
    """The collection was cut over to encoders that this process cannot load; it goes on with those it has."""
