"""rakelight.reconstruction: see the package's modules; this file guards the import name and places compiled code."""

if __name__ != "rakelight.reconstruction":
    # Running Python in the repository root puts this folder first on the path; loaded under
    # its bare name, every module would exist twice.
    raise ImportError(
        "import rakelight.reconstruction instead of reconstruction: the folder is only a part of rakelight"
    )

import atexit
import os
import shutil
import tempfile
from pathlib import Path


def _cache_compiled_code() -> None:
    """Give numba a place for compiled code where it finds none (read-only installation, account without a home).

    A folder of this process alone, removed at its end: cached code in a shared place could be somebody else's.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~"))
    if "NUMBA_CACHE_DIR" in os.environ or any(os.access(p, os.W_OK) for p in (Path(__file__).resolve().parent, home)):
        return
    os.environ["NUMBA_CACHE_DIR"] = tempfile.mkdtemp(prefix="rakelight-numba-")
    atexit.register(shutil.rmtree, os.environ["NUMBA_CACHE_DIR"], ignore_errors=True)


_cache_compiled_code()
