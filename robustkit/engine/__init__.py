"""Running a component on samples, checked and counted."""
