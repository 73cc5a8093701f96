"""What stands before every route: the token and the size of the body, before anything is parsed.

Place in the flow: uvicorn -> `Guard` -> the routes of `app.py`. The token comes as
`Authorization: Bearer TOKEN`, or as the password of `http://:TOKEN@host:port/`, which HTTP clients
turn into basic authentication, so that a client which only knows a URL can use it. What it does not
do: it encrypts nothing; put a reverse proxy in front where others share the network.
"""

import asyncio
import base64
import binascii
import contextlib
import hmac
import json
import os
import re
import secrets
from pathlib import Path

from starlette.types import ASGIApp, Message, Receive, Scope, Send

TOKEN_VARIABLE = "SDBENCH_SANDBOX_TOKEN"
MIN_TOKEN_LENGTH = 16
LINGER_S = 2.0
"""How long a refused client may go on sending, so that it comes to read why."""
OPEN_PATHS = frozenset({"/health", "/v1/ping", "/openapi.json", "/docs"})
"""What needs no token: whether the service lives, and its documentation."""


def find_token(file: Path | None) -> tuple[str, bool]:
    """The token from a file, else from the environment, else a new one.

    Returns:
        The token, and whether it was made here and has to be shown.

    Raises:
        ValueError: It is too short, or not one word.
        OSError: The file cannot be read.
    """
    if file is not None:
        return check_token(file.read_text().strip(), str(file)), False
    if TOKEN_VARIABLE in os.environ:
        return check_token(os.environ[TOKEN_VARIABLE], TOKEN_VARIABLE), False
    return secrets.token_urlsafe(32), True


def check_token(token: str, source: str) -> str:
    """The token if it is good enough; the message of the error does not show it."""
    if len(token) < MIN_TOKEN_LENGTH or not re.fullmatch(r"[A-Za-z0-9._~+/=-]+", token):
        raise ValueError(
            f"the token in {source} has {len(token)} characters; at least {MIN_TOKEN_LENGTH} are "
            "needed, letters, digits and ._~+/=- only"
        )
    return token


class Guard:
    """ASGI middleware that refuses without a token, and bodies that are too long."""

    def __init__(self, app: ASGIApp, token: str, max_body_bytes: int) -> None:
        self._app = app
        self._token = token.encode()
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 401 or 413, or hand the request on with its whole body."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.lower(): value for name, value in scope["headers"]}
        if scope["path"] not in OPEN_PATHS and not self._knows(headers.get(b"authorization", b"")):
            reason = "wrong or missing token; send `Authorization: Bearer TOKEN`"
            await refuse(receive, send, 401, reason, {b"www-authenticate": b"Bearer"})
            return
        body = await read_body(headers, receive, self._max_body_bytes)
        if body is None:
            reason = f"the request is longer than {self._max_body_bytes} bytes; send fewer programs"
            await refuse(receive, send, 413, reason, {b"connection": b"close"})
            return
        await self._app(scope, replay(body, receive), send)

    def _knows(self, authorization: bytes) -> bool:
        """Compare in constant time, whatever scheme carries the token."""
        scheme, _, given = authorization.partition(b" ")
        if scheme.lower() == b"basic":
            try:
                given = base64.b64decode(given, validate=True).partition(b":")[2]
            except binascii.Error:
                return False
        elif scheme.lower() != b"bearer":
            return False
        return hmac.compare_digest(given.strip(), self._token)


async def read_body(
    headers: dict[bytes, bytes], receive: Receive, max_body_bytes: int
) -> bytes | None:
    """The whole body; None as soon as it is known to be too long, or the client is gone."""
    if int(headers.get(b"content-length", b"0")) > max_body_bytes:
        return None
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body += message.get("body", b"")
        if len(body) > max_body_bytes:
            return None
        if not message.get("more_body", False):
            return bytes(body)


def replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body at once, then what really comes: the disconnection."""
    is_given = False

    async def receive_again() -> Message:
        nonlocal is_given
        if is_given:
            return await receive()
        is_given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again


async def refuse(
    receive: Receive, send: Send, status: int, reason: str, headers: dict[bytes, bytes]
) -> None:
    """Answer in the form of every error of this service, and throw away what is still being sent.

    A connection that closes on unread bytes is reset, and the client may lose the answer with it.
    """
    body = json.dumps({"detail": reason}).encode()
    fields = {b"content-type": b"application/json", b"content-length": str(len(body)).encode()}
    start = {"status": status, "headers": list((fields | headers).items())}
    await send({"type": "http.response.start", **start})
    await send({"type": "http.response.body", "body": body, "more_body": True})
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER_S):
            while (await receive()).get("more_body", False):
                pass
    await send({"type": "http.response.body", "body": b""})
