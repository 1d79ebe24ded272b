"""Progress bars with the time left: in a notebook its own bars, in a terminal on standard error, elsewhere none."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm.auto import tqdm


@contextmanager
def progress(description: str, total: int) -> Iterator[Callable[[int], object]]:
    """Yield a function that moves the bar on by one, or by as many as it is given."""
    disable = None if not in_notebook() else False  # None: where standard error is no terminal, which a kernel's is not
    with tqdm(total=total, desc=description, disable=disable, leave=False, smoothing=0.1, dynamic_ncols=True) as bar:
        yield lambda steps=1: bar.update(steps)


def in_notebook() -> bool:
    """Whether a Jupyter kernel runs this process."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return "IPKernelApp" in getattr(shell, "config", {})
