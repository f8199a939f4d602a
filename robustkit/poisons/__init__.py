"""Poisons: they plant a backdoor into a training set. One method, one file."""
