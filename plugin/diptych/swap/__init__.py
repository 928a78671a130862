"""Swaps the encoder of a live collection: plan, apply, gate, cut-over, rollback."""
