"""The entry point's name could not be written before an entry's."""
