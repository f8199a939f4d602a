"""The one training loop that all trained defenses share."""
