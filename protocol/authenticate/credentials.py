"""What a request shows to say who sends it. Pure."""

from __future__ import annotations

import re
from typing import Final

from aiohttp.web_request import BaseRequest

from protocol.problems import Unauthenticated

_SCHEME: Final = "bearer"
_visible: Final = re.compile(r"[!-~]+").fullmatch


class NoCredentials(Unauthenticated):
    """The request says nothing about who sends it."""


def shown(request: BaseRequest) -> str:
    """The key or token of a request: from `Authorization: Bearer`, or `X-API-Key`.

    `NoCredentials`, or `Unauthenticated` for what is malformed. Never quoted in either.
    """
    headers = request.headers
    given = headers.getall("Authorization", [])
    keys = headers.getall("X-API-Key", [])
    if not given and not keys:
        raise NoCredentials("say who you are: Authorization: Bearer <key>, or X-API-Key: <key>")
    if len(given) + len(keys) > 1:
        raise Unauthenticated("give one of Authorization and X-API-Key, once")
    if keys:
        return _plain(keys[0])
    scheme, _, text = given[0].partition(" ")
    if scheme.lower() != _SCHEME:
        raise Unauthenticated("the Authorization header must be: Bearer <key>")
    return _plain(text)


def _plain(text: str) -> str:
    text = text.strip()
    if _visible(text) is None:
        raise Unauthenticated("a key or token has visible ASCII characters only")
    return text
