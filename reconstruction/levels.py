"""Levels of raw values that every part of the chain must agree on."""

SATURATION = 0.98  # of full scale: a raw value at or above it counts as saturated
