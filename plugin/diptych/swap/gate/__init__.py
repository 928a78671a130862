"""Decides whether new encoders may replace the live ones. Begin with `gate`."""
