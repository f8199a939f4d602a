"""The entry point names an attribute."""
