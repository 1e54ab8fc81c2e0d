"""Shared prefixes: configurations that begin alike train those epochs once."""
