"""Notebook widgets: what is in a lake, seen and clicked, and given back to Python."""
