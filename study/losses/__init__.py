"""Losses: a pure formula and a thin module each; build.py maps configuration types to them."""
