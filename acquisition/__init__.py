"""rakelight.acquisition: see the package's modules; this file only guards the import name."""

if __name__ != "rakelight.acquisition":
    # Running Python in the repository root puts this folder first on the path; loaded under
    # its bare name, every module would exist twice.
    raise ImportError("import rakelight.acquisition instead of acquisition: the folder is only a part of rakelight")

from rakelight.compiled import prepare

prepare(__file__)
