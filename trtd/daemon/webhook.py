"""Sends one event to a web address. A program of its own, run as ``python -I -S webhook.py``; imports the standard
library alone, so that it starts in a moment.

Standard input: a line of JSON, ``{"url": …, "timeout_s": …}``, then the body to send. Exit status 0 if a 2xx answer
came; else the reason is printed, without the address, whose end is often a secret. Redirects count as refusals: they
would send the event, or its secret, to somebody whom the operator has not named.
"""

from __future__ import annotations

import http.client
import json
import socket
import sys
import urllib.error
import urllib.request
from typing import Any

_NO_NETWORK = "; the systemd unit allows no network: run `trtd install-service` again"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def _has_network() -> bool:
    """Whether this process may use IP at all: the seccomp filter of a service may forbid it."""
    try:
        socket.socket(socket.AF_INET).close()
    except OSError:
        return False
    return True


def main() -> str | None:
    """Send what standard input says; returns why that failed, ``None`` if it did not."""
    target, _, body = sys.stdin.buffer.read().partition(b"\n")
    wanted = json.loads(target)
    headers = {"Content-Type": "application/json", "User-Agent": "trtd"}
    request = urllib.request.Request(wanted["url"], data=body, headers=headers, method="POST")
    try:
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=wanted["timeout_s"]):
            return None
    except urllib.error.HTTPError as error:
        return f"the answer was {error.code}"
    except urllib.error.URLError as error:
        return str(error.reason) + ("" if _has_network() else _NO_NETWORK)
    except (OSError, http.client.HTTPException, ValueError) as error:
        return type(error).__name__  # their texts may quote the address


if __name__ == "__main__":
    sys.exit(main())  # a text goes to standard error, and the status is 1
