"""Commands that search a collection and measure its answers: `search`, `explain`, `evaluate` and `tune`.

`filters` reads `--filter` and `--where` for all of them, `show_hits` prints hits, and `pipeline_runs` makes the runs
that `evaluate` compares.
"""
