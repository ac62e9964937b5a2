"""Sample images whose true depth is known."""
