"""Back-fill: fills a new vector of a live collection while other programs write to it.

Begin with `backfill`, the checkpointed loop over the points. `diptych.populate.store` reads and writes them,
`documents` gets their texts.
"""
