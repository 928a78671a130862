"""The adapters that come with diptych. They enter through the same hooks as anybody else's."""

import diptych  # noqa: F401  first: it switches off the usage reports of libraries that are imported from here on
