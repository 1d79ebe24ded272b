"""One request to a server that may be slow, down or hostile: the whole reply within a deadline, or a reason why not.

The deadline bounds everything: looking up the name, connecting, the headers and the body. A socket's own time-out
restarts with every byte, so the exchange runs in a thread, which is abandoned when its time is up. A redirect is a
failure: following it would turn a POST into a GET at an address that the user did not choose. No error message holds
anything that was sent.
"""

import json
import re
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from concurrent.futures import Future
from http.client import HTTPException, HTTPMessage, HTTPResponse

from mechdrift.records import MechdriftError

RETRIED = (408, 425, 429)  # and every 5xx; other statuses stay the same however often one asks
VISIBLE = re.compile(r"[!-~]+")  # what an address and a header's value may consist of
DETAIL = 200  # bytes of what a server says about its refusal


class NoReply(Exception):
    """Why there is no reply, as "kind: cause". `passing` says that asking again may help, `wait` how many seconds the
    server asks to wait, `detail` what it says about a refusal."""

    def __init__(self, why: str, *, passing: bool = False, wait: float | None = None, detail: str = ""):
        super().__init__(why)
        self.passing, self.wait, self.detail = passing, wait, detail


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req: object, fp: object, code: int, msg: str, headers: object, newurl: str) -> None:
        return None


def check_address(address: str, whose: str, example: str) -> None:
    """Raise unless an address is one of http or https without a password, which the error does not show."""
    try:
        parts = urllib.parse.urlsplit(address)
        is_sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # an unclosed bracket, or a port that is not a number
        is_sound = False
    if "@" in address:
        raise MechdriftError(
            f"{whose} holds a name or a password before an @: give the address alone, such as {example}, and a key "
            "through its environment variable."
        )
    if not is_sound or not VISIBLE.fullmatch(address):
        raise MechdriftError(f"{whose} {address[:200]!r} is not a web address: give one such as {example}.")


def fetch(
    url: str, body: Mapping[str, object] | None, *, timeout: float, longest: int, key: str | None = None
) -> bytes:
    """The reply to a POST of `body` as JSON (or, without one, to a GET), complete within `timeout` seconds and at most
    `longest` bytes; raises `NoReply` otherwise."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json"})
    if key:
        request.add_unredirected_header("Authorization", f"Bearer {key}")
    found: Future[bytes] = Future()

    def work() -> None:
        try:
            found.set_result(_exchange(request, timeout, longest))
        except BaseException as failure:  # noqa: BLE001 - raised where the reply is waited for
            found.set_exception(failure)

    threading.Thread(target=work, daemon=True).start()
    try:
        return found.result(timeout)
    except TimeoutError:
        raise _too_slow(timeout) from None


def _exchange(request: urllib.request.Request, timeout: float, longest: int) -> bytes:
    deadline = time.monotonic() + timeout
    try:
        with urllib.request.build_opener(_NoRedirects).open(request, timeout=timeout) as response:
            return _read(response, deadline, longest)
    except urllib.error.HTTPError as error:
        raise _refused(error) from None
    except TimeoutError:
        raise _too_slow(timeout) from None
    except urllib.error.URLError as error:
        if isinstance(error.reason, TimeoutError):
            raise _too_slow(timeout) from None
        raise NoReply("unreachable: the connection failed", passing=True) from None
    except (OSError, HTTPException, ValueError):  # ValueError: the reply is not HTTP at all
        raise NoReply("unreachable: the connection broke", passing=True) from None


def _too_slow(timeout: float) -> NoReply:
    return NoReply(f"timeout: no reply within {timeout:g} s", passing=True)


def _refused(error: urllib.error.HTTPError) -> NoReply:
    try:
        detail = error.read(DETAIL).decode(errors="replace")
    except (OSError, HTTPException, ValueError):
        detail = ""
    return NoReply(
        f"server error: status {error.code}",
        passing=error.code in RETRIED or error.code >= 500,
        wait=_retry_after(error.headers),
        detail=detail,
    )


def _read(response: HTTPResponse, deadline: float, longest: int) -> bytes:
    parts, size = [], 0
    while part := response.read1(1 << 16):
        parts.append(part)
        size += len(part)
        if time.monotonic() > deadline:
            raise TimeoutError
        if size > longest:
            raise NoReply(f"garbage: the reply is longer than {longest:,} bytes")
    return b"".join(parts)


def _retry_after(headers: HTTPMessage) -> float | None:
    value = headers.get("Retry-After") or ""
    return float(value) if re.fullmatch(r"\d{1,9}", value.strip()) else None
