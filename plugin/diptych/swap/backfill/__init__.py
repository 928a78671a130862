"""Fills a new vector of a live collection while others write to it. Begin with `run`, then `backfill`."""
