"""Where numba keeps compiled code and which threads run it; to be settled before numba is imported."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path


def prepare(package_file: str) -> None:
    """Settle numba's cache and threads for the kernels of the package whose ``__init__`` is ``package_file``.

    Cache: where neither the package nor the home is writable (read-only installation, account without a home) a folder of
    this process alone, removed at its end; cached code in a shared place could be somebody else's. Threads: OpenMP first;
    numba's own order begins with TBB and warns when it finds the older one that Open3D brings. A process that has run a
    kernel must not be forked afterwards (GNU OpenMP ends the child at its first kernel): start others with spawn.
    """
    os.environ.setdefault("NUMBA_THREADING_LAYER_PRIORITY", "omp tbb workqueue")
    home = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~"))
    package = Path(package_file).resolve().parent
    if "NUMBA_CACHE_DIR" in os.environ or any(os.access(p, os.W_OK) for p in (package, home)):
        return
    os.environ["NUMBA_CACHE_DIR"] = tempfile.mkdtemp(prefix="rakelight-numba-")
    atexit.register(shutil.rmtree, os.environ["NUMBA_CACHE_DIR"], ignore_errors=True)
