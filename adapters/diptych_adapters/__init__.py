"""The adapters that come with diptych. They enter through the same hooks as anybody else's."""
