"""Records made visible."""
