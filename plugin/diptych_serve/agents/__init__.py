"""The MCP server: offers collections to language models as tools. Run by `diptych mcp`; needs `diptych[mcp]`.

Begin with `server`, which builds the MCP server. `tools` has what a model can call.
Collections and keys are those of `diptych_serve.service`.
"""
