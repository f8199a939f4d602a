"""Certifiers: one method, one file; the statistics stand in `confidence.py` and `stopping.py`."""
