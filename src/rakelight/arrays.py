"""Checks of arrays at the edges of modules: one clear sentence instead of a broadcast error."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from rakelight.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def check_array(
    name: str,
    array: Any,
    *,
    ndim: int | None = None,
    shape: Sequence[int | None] | None = None,
    dtypes: Iterable[str] | None = None,
    finite: bool = False,
) -> NDArray[Any]:
    """Return ``array`` as an ndarray, or raise :class:`InputError` naming what does not fit.

    Parameters
    ----------
    name : str
        How the caller's user knows the array.
    ndim : int, optional
        Required number of axes.
    shape : sequence of int or None, optional
        Required shape; ``None`` leaves an axis free.
    dtypes : iterable of str, optional
        Allowed dtype names, for example ``("uint8", "uint16", "float32")``.
    finite : bool
        Refuse NaN and infinity.
    """
    import numpy as np

    try:
        a: NDArray[Any] = np.asarray(array)
    except ValueError as e:  # rows of different lengths
        raise InputError(f"{name} is not an array: {e}", code="input.shape") from e
    if a.dtype.kind not in "biufc":
        raise InputError(f"{name} has dtype {a.dtype.name}; numbers are needed", code="input.dtype")
    if dtypes is not None:
        allowed = tuple(dtypes)
        if a.dtype.name not in allowed:
            raise InputError(f"{name} has dtype {a.dtype.name}; allowed: {', '.join(allowed)}", code="input.dtype")
    if ndim is not None and a.ndim != ndim:
        raise InputError(f"{name} has {a.ndim} axes (shape {a.shape}); {ndim} are needed", code="input.shape")
    if shape is not None:
        fits = a.ndim == len(shape) and all(w is None or w == g for w, g in zip(shape, a.shape, strict=True))
        if not fits:
            wanted = "×".join("any" if w is None else str(w) for w in shape)
            raise InputError(f"{name} has shape {a.shape}; needed: {wanted}", code="input.shape")
    if finite and not np.isfinite(a).all():
        bad = int(a.size - np.isfinite(a).sum())
        raise InputError(f"{name} holds {bad} NaN or infinite values of {a.size}", code="input.not_finite")
    return a


def check_same_shape(name: str, arrays: Sequence[NDArray[np.generic]]) -> tuple[int, ...]:
    """The common shape of ``arrays``; raises :class:`InputError` naming the first that differs."""
    if not arrays:
        raise InputError(f"{name}: no arrays given", code="input.empty")
    first = arrays[0].shape
    for index, a in enumerate(arrays):
        if a.shape != first:
            raise InputError(
                f"{name}: item {index + 1} has shape {a.shape}, the first has {first}; all must agree",
                code="input.shape",
            )
    return first
