"""Detectors: of backdoored models, poisoned training samples and suspicious inputs. One method, one file."""
