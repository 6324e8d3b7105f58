"""Training data: splits that no patient crosses, patches, adaptors for torch."""
