"""Commands that serve collections to other programs: `serve` over HTTP, `mcp` to language models.

Begin with `serve`. `served_collections` opens the collections for both and checks that the needed packages are
installed.
"""
