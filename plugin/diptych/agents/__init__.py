"""The MCP server: collections as tools for language models. `diptych mcp` runs it; needs `diptych[mcp]`."""
