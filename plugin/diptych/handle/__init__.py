"""An open collection as populate, search and swap see it. Begin with `collection_handle`."""
