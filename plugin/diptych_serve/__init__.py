"""diptych for other programs and for people: `service` (HTTP), `agents` (MCP) and `studio` (in the browser).

A guest of diptych. Begin with `service`, on which the others stand; `cli` has the commands.
"""
