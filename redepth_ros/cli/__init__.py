"""The command `redepth`."""
