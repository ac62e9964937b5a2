"""`redepth process`: every frame of a recording becomes depth in the formats of other tools."""
