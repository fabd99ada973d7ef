"""The simulated camera: a GenTL producer in C, compiled at first use (:mod:`.build`)."""
