"""`redepth benchmark`: the speed of this machine, and parameters that suit it."""
