"""Numbers of regions: arrays in, features out (IBSI)."""
