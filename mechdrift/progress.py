"""Progress bars with the time left, on standard error, silent when that is not a terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm.auto import tqdm


@contextmanager
def progress(description: str, total: int) -> Iterator[Callable[[int], object]]:
    """Yield a function that moves the bar on by one, or by as many as it is given."""
    with tqdm(total=total, desc=description, disable=None, leave=False, smoothing=0.1, dynamic_ncols=True) as bar:
        yield lambda steps=1: bar.update(steps)
