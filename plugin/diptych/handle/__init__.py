"""An open collection as populate, search and swap use it.

Begin with `collection_handle`, which draws the states of a handle. `view` is the immutable snapshot that one search
keeps, limited to a tenant's documents; `open_handle` opens a collection and compares the config with it; `create` makes
one.
"""

import diptych.runtime.lazy_imports  # noqa: F401
