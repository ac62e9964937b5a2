"""`redepth demo`: the nodes at work on footage, observed from another process."""
