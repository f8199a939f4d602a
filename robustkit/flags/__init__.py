"""Red flags: signs that a robust accuracy is not to be believed, each with its evidence."""
