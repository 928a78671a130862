"""The commands `judge` and `tune`; entry points bring them to `diptych`. Begin with `tune`."""
