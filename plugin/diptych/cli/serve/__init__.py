"""Commands that serve collections over HTTP and MCP."""
