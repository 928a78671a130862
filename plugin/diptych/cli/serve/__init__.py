"""Commands that serve collections to other programs: `serve` over HTTP, `mcp` to language models.

Begin with `serve`, which holds them and `studio`.
"""
