"""rakelight: capture, photometric stereo, structured light, data sets and inspection of small parts."""

__version__ = "0.1.0"
