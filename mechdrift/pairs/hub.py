"""The Hugging Face hub where there is no network: what is in its cache is used, and all else is one sentence at once.

The hub's client tries a request six times over a minute, with a line on standard error for each. So the hub's name is
resolved first. Where that fails, the client is told for the time of one call that it is offline. Behind a proxy, which
resolves names itself, the client is left alone.
"""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from urllib.parse import urlsplit
from urllib.request import getproxies

ASKED_AGAIN_AFTER = 30.0  # seconds; a network may come back


@contextmanager
def hub_or_cache() -> Iterator[None]:
    """Inside the block, the hub's client reads its cache alone where the hub's name cannot be resolved."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE or _is_known(constants.ENDPOINT, int(time.monotonic() / ASKED_AGAIN_AFTER)):
        yield
        return
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = False


@lru_cache(maxsize=1)
def _is_known(endpoint: str, _now: int) -> bool:
    """Whether a network knows this address."""
    if getproxies():
        return True
    address = urlsplit(endpoint)
    try:
        socket.getaddrinfo(address.hostname, address.port or 443)
    except OSError:
        return False
    return True
