"""Words and their numbers: what the lexical adapters share."""
