"""Detectors: configurations of features, swapping, fusion, banks and decision; one file a method."""
