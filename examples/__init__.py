"""rakelight.examples: recordings and settings to try rakelight with; this file only guards the import name."""

if __name__ != "rakelight.examples":
    # Running Python in the repository root puts this folder first on the path; loaded under
    # its bare name, every module would exist twice.
    raise ImportError("import rakelight.examples instead of examples (the folder is only a part of rakelight)")
