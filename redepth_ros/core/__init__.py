"""Mathematics and algorithms: imports torch, numpy and the standard library only."""
