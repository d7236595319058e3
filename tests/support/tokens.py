"""Keys and tokens of an identity provider, made by the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from time import time
from typing import Any

import jwt
import msgspec
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

AUDIENCE = "actorpool"
ISSUER = "https://issuer.example"
SECRET = "s" * 64

_ALGORITHMS: dict[str, Any] = {
    "RS": RSAAlgorithm(RSAAlgorithm.SHA256),
    "ES": ECAlgorithm(ECAlgorithm.SHA256),
    "Ed": OKPAlgorithm(),
}


@cache
def private(family: str, name: str = "") -> Any:
    """A private key of a family (RS, ES, Ed), the same for the same name."""
    if family == "RS":
        return rsa.generate_private_key(65_537, 2_048)
    if family == "ES":
        return ec.generate_private_key(ec.SECP256R1())
    return ed25519.Ed25519PrivateKey.generate()


def pem(key: Any) -> str:
    """The public part of a key."""
    public = key.public_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()  # type: ignore[no-any-return]


def private_pem(key: Any) -> str:
    """The private part of a key."""
    return key.private_bytes(  # type: ignore[no-any-return]
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    ).decode()


def jwk(key: Any, kid: str | None, **more: Any) -> dict[str, Any]:
    """A public key as its issuer publishes it."""
    family = {"RSAPrivateKey": "RS", "ECPrivateKey": "ES"}.get(type(key).__name__, "Ed")
    if family == "Ed" and "llip" in type(key).__name__:
        family = "ES"
    plain: dict[str, Any] = msgspec.json.decode(_ALGORITHMS[family].to_jwk(key.public_key()))
    return {**plain, **({} if kid is None else {"kid": kid}), **more}


def claims(**changed: Any) -> dict[str, Any]:
    """Claims that are good, but for what is changed (None: left out)."""
    now = int(time())
    good = {
        "sub": "ann",
        "tenant": "acme",
        "aud": AUDIENCE,
        "iss": ISSUER,
        "exp": now + 600,
        "iat": now,
        **changed,
    }
    return {name: value for name, value in good.items() if value is not None}


def token(key: Any = SECRET, algorithm: str = "HS256", kid: object = None, **changed: Any) -> str:
    """A signed token."""
    headers = {} if kid is None else {"kid": kid}
    return jwt.encode(claims(**changed), key, algorithm=algorithm, headers=headers)


class Issuer:
    """Publishes keys; counts how often it was asked."""

    def __init__(self) -> None:
        self.keys: list[dict[str, Any]] = []
        self.asked = 0
        self.answer: tuple[int, bytes] | None = None
        self.url = ""
        # cleared, whoever asks waits
        self.hold = asyncio.Event()
        self.hold.set()
        self.asked_in_vain = asyncio.Event()

    async def publish(self, request: web.BaseRequest) -> web.StreamResponse:
        """The keys, or what the test wants."""
        self.asked += 1
        if not self.hold.is_set():
            self.asked_in_vain.set()
            await self.hold.wait()
        if self.answer is not None:
            status, body = self.answer
            headers = {"Location": self.url + "/elsewhere"} if status == 302 else {}
            return web.Response(status=status, body=body, headers=headers)
        return web.Response(body=msgspec.json.encode({"keys": self.keys}))


@asynccontextmanager
async def issuing() -> AsyncIterator[Issuer]:
    """An issuer on a free port of this machine."""
    issuer = Issuer()
    runner = web.ServerRunner(web.Server(issuer.publish), shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    issuer.url = f"http://127.0.0.1:{site.port}/jwks"
    try:
        yield issuer
    finally:
        issuer.hold.set()
        await runner.cleanup()
