"""rakelight.detection: see the package's modules; this file guards the import name and places compiled code."""

if __name__ != "rakelight.detection":
    # Running Python in the repository root puts this folder first on the path; loaded under
    # its bare name, every module would exist twice.
    raise ImportError("import rakelight.detection instead of detection: the folder is only a part of rakelight")

from rakelight.compiled import prepare

prepare(__file__)
