"""Commands that serve collections to other programs: `serve` over HTTP, `mcp` to language models.

Begin with `serve`, which has them all, `studio` included.
"""
