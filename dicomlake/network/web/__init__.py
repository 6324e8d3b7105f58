"""The HTTP side of a receiver: STOW-RS (PS3.18 section 10.5), metrics and health."""
