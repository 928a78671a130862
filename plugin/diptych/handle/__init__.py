"""An open collection as populate, search and swap use it.

Begin with `collection_handle`, which draws the states of a handle. `snapshot` is the immutable view that one search
keeps; `open_handle` compares the config with the collection's own metadata; `create` makes a collection; `tenancy`
keeps tenants apart; `notify` calls the hooks of plugins.
"""
