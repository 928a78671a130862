"""An open collection as populate, search and swap use it.

Begin with `collection_handle`, which draws the states of a handle. `snapshot` is the immutable view that one search
keeps; `open_handle` opens one and compares the config with it; `create` makes a collection; `tenancy`
keeps tenants apart.
"""

import diptych.runtime.lazy_imports  # noqa: F401
