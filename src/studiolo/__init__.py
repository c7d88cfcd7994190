"""Studiolo: a room of their own for every data scientist."""

__version__ = "0.1.0"
