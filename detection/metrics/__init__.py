"""How good a detector is: curves and areas, exact and streaming."""
