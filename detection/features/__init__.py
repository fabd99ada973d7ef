"""Feature extractors: a picture or points in, features on a grid of patches out."""
