"""A slot: an encoder with its guard, its caches and its canaries. Begin with `slot`."""
