"""Random integers as a hash of (seed, stream, index, slot): the same on every machine, Python and NumPy."""

import numpy as np


def _mix(x: np.ndarray) -> np.ndarray:
    """The finalizer of splitmix64 (Steele, Lea, Flood 2014): 64 well-mixed bits for each 64-bit counter."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def draws(seed: int, stream: str, index: np.ndarray, *, slots: int) -> np.ndarray:
    """Random integers (len(index), slots) in [0, 2**32): row i depends on `index[i]` only, not on its neighbors."""
    state = np.zeros(1, dtype=np.uint64)
    for word in np.array([seed & (2**64 - 1), *stream.encode()], dtype=np.uint64):
        state = _mix(state * np.uint64(0x9E3779B97F4A7C15) + word + np.uint64(1))
    rows = _mix(state + np.asarray(index, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))[:, None]
    columns = np.arange(1, slots + 1, dtype=np.uint64)[None, :] * np.uint64(0xD1B54A32D192ED03)
    return (_mix(rows + columns) >> np.uint64(32)).astype(np.int64)


def below(u: np.ndarray, n: np.ndarray | int) -> np.ndarray:
    """Integers in [0, n) from integers in [0, 2**32)."""
    return (u * n) >> 32
