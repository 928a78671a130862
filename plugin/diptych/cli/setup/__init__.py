"""Commands that begin a project, check it, and make adapters."""
