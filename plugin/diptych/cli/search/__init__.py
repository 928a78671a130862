"""Commands that search, explain, evaluate and tune."""
