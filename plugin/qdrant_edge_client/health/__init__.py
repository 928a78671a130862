"""Integrity of an embedded store's files: checked at opening, tracked while open, repaired on request."""
