"""Fails as old libraries do on a new NumPy."""

raise AttributeError("module 'numpy' has no attribute 'float_'")
