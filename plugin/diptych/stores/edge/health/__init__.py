"""Whether an embedded store's files are as they were left: checked at opening, kept track of while open, repaired."""
