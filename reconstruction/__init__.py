"""rakelight.reconstruction: see the package's modules; this file only guards the import name."""

if __name__ != "rakelight.reconstruction":
    # Running Python in the repository root puts this folder first on the path; loaded under
    # its bare name, every module would exist twice.
    raise ImportError(
        "import rakelight.reconstruction instead of reconstruction: the folder is only a part of rakelight"
    )

import os
import tempfile
from pathlib import Path


def _cache_compiled_code() -> None:
    """Give numba a place for compiled code where it finds none (read-only installation, account without a home)."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~"))
    if not any(os.access(place, os.W_OK) for place in (Path(__file__).resolve().parent, home)):
        os.environ.setdefault("NUMBA_CACHE_DIR", str(Path(tempfile.gettempdir()) / f"rakelight-numba-{os.getuid()}"))


if os.name == "posix":
    _cache_compiled_code()
