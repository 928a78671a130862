"""What measures and improves a collection: `tune`, `judge` (judgements and clicks) and `notebook` (results as HTML).

A guest of diptych. Begin with `judge`, which gathers the judgements that `tune` measures by; `cli` has the commands.
"""
