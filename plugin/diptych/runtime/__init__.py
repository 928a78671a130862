"""What a process needs before any work: interrupts, panics, lazy imports, the environment, words for wrong values."""
