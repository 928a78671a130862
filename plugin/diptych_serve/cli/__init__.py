"""The commands `serve`, `studio`, `mcp` and `edge`; entry points bring them to `diptych`. Begin with `serve`."""
