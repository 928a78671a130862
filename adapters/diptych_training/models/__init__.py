"""Modules and wrappers that recipes put round an encoder."""
