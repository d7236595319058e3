"""What a request shows to say who sends it. Pure."""

from __future__ import annotations

import re
from typing import Final

from aiohttp.hdrs import AUTHORIZATION
from aiohttp.web_request import BaseRequest
from multidict import istr

from protocol.problems import Unauthenticated

_SCHEME: Final = "bearer"
_KEY: Final = istr("X-API-Key")
_visible: Final = re.compile(r"[!-~]+").fullmatch


class NoCredentials(Unauthenticated):
    """The request says nothing about who sends it."""


def shown(request: BaseRequest) -> str:
    """The key or token of a request: from `Authorization: Bearer`, or `X-API-Key`.

    `NoCredentials`, or `Unauthenticated` for what is malformed. Never quoted in either.
    """
    headers = request.headers
    given = headers.getall(AUTHORIZATION, [])
    keys = headers.getall(_KEY, [])
    if not given and not keys:
        raise NoCredentials("say who you are: Authorization: Bearer <key>, or X-API-Key: <key>")
    if len(given) + len(keys) > 1:
        raise Unauthenticated("give one of Authorization and X-API-Key, once")
    if keys:
        text = keys[0]
    else:
        scheme, _, text = given[0].partition(" ")
        if scheme.lower() != _SCHEME:
            raise Unauthenticated("the Authorization header must be: Bearer <key>")
    text = text.strip()
    if _visible(text) is None:
        raise Unauthenticated("a key or token has visible ASCII characters only")
    return text
