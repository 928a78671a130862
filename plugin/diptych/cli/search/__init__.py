"""Commands that search a collection and measure its answers: `search`, `explain`, `evaluate` and `tune`.

Begin with `search`. `filters` reads `--filter` and `--where` for all of them, `show_hits` prints hits, and
`open_configs` opens the collections whose pipelines `evaluate` and `judge` compare.
"""
