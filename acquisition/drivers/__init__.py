"""Drivers of real devices. Simulated devices stand at the far end of the wire; no driver knows of them."""
