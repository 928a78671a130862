"""The commands `judge`, `clicks` and `tune`; entry points bring them to `diptych`. Begin with `tune`."""
