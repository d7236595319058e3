from __future__ import annotations

import asyncio

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.warnings import InsecureKeyLengthWarning

from pool.errors import StoreUnavailable
from pool.guard.caller import BadCredential
from pool.guard.token_keys import PublishedKeys
from pool.guard.token_rules import TokenRules
from pool.guard.tokens import Tokens
from tests.support.tokens import AUDIENCE, ISSUER, issuing, jwk, private, token

pytestmark = pytest.mark.real_time(10)

ALGORITHMS = ("RS256", "ES256", "EdDSA")


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self):
        self.now = 1_000.0

    def __call__(self):
        return self.now


def checker(url, clock=None, algorithms=ALGORITHMS):
    """What checks tokens with the keys at a URL."""
    rules = TokenRules(algorithms=algorithms, jwks_url=url, audience=AUDIENCE, issuer=ISSUER)
    return Tokens(rules, PublishedKeys(url, algorithms, clock=clock or Clock()))


async def test_a_published_key_checks_tokens():
    """Found by its name, fetched once for all, whichever family it is of."""
    async with issuing() as issuer:
        issuer.keys = [
            jwk(private("RS"), "one", use="sig", alg="RS256"),
            jwk(private("ES"), "two"),
            jwk(private("Ed"), "three/+="),
        ]
        tokens = checker(issuer.url)
        for family, algorithm, kid in (
            ("RS", "RS256", "one"),
            ("ES", "ES256", "two"),
            ("Ed", "EdDSA", "three/+="),
        ):
            caller = await tokens.verify(token(private(family), algorithm, kid))
            assert caller.principal.user == "ann"
        assert issuer.asked == 1
        assert "3 at" in repr(tokens._keys)
        await tokens.close()


async def test_a_key_counts_with_its_own_algorithm_only():
    """One published for RS512 checks no RS256; an EC key checks no RSA token."""
    async with issuing() as issuer:
        issuer.keys = [jwk(private("RS"), "a", alg="RS512"), jwk(private("ES"), "b")]
        tokens = checker(issuer.url)
        for kid in ("a", "b"):
            with pytest.raises(BadCredential):
                await tokens.verify(token(private("RS"), "RS256", kid))


async def test_a_published_secret_is_none():
    """Keys of kind `oct`, for encryption, or broken are passed over."""
    async with issuing() as issuer:
        issuer.keys = [
            {"kty": "oct", "k": "c2VjcmV0" * 8, "kid": "s"},
            jwk(private("RS"), "e", use="enc"),
            {"kty": "RSA", "kid": "broken"},
            {"kid": "nothing"},
            "x",  # type: ignore[list-item]
            jwk(private("RS"), "good"),
        ]
        tokens = checker(issuer.url)
        assert await tokens.verify(token(private("RS"), "RS256", "good"))
        assert len(tokens._keys._keys) == 1
        for kid in ("s", "e", "broken", "nothing"):
            with pytest.raises(BadCredential):
                await tokens.verify(token("x" * 64, "HS256", kid))


async def test_a_token_without_a_name_is_of_the_only_key():
    """With two keys it is not guessed which."""
    async with issuing() as issuer:
        issuer.keys = [jwk(private("RS"), None)]
        assert await checker(issuer.url).verify(token(private("RS"), "RS256"))
        issuer.keys.append(jwk(private("ES"), "b"))
        with pytest.raises(BadCredential):
            await checker(issuer.url).verify(token(private("RS"), "RS256"))


async def test_an_unknown_name_fetches_at_most_once_a_minute():
    """A new key is found; whoever makes up names causes no traffic."""
    clock = Clock()
    async with issuing() as issuer:
        issuer.keys = [jwk(private("RS"), "one")]
        tokens = checker(issuer.url, clock)
        await tokens.verify(token(private("RS"), "RS256", "one"))
        clock.now += 61
        for number in range(20):
            with pytest.raises(BadCredential):
                await tokens.verify(token(private("ES"), "ES256", f"made-up-{number}"))
        assert issuer.asked == 2
        issuer.keys.append(jwk(private("ES"), "two"))
        clock.now += 61
        assert await tokens.verify(token(private("ES"), "ES256", "two"))
        assert issuer.asked == 3


@pytest.mark.parametrize(
    "kid", ["http://127.0.0.1:1/jwks", "../../etc/passwd", "file:///etc/passwd", "';drop"]
)
async def test_a_name_is_never_an_address_or_a_path(kid):
    """It is looked up among the keys, and nothing else is asked or opened."""
    async with issuing() as issuer:
        issuer.keys = [jwk(private("RS"), "one")]
        tokens = checker(issuer.url)
        with pytest.raises(BadCredential):
            await tokens.verify(token(private("RS"), "RS256", kid))
        assert issuer.asked == 1


async def test_many_that_wait_for_keys_fetch_them_once():
    """Callers that come at once share one fetch, and one that leaves does not end it."""
    async with issuing() as issuer:
        issuer.keys = [jwk(private("RS"), "one")]
        tokens = checker(issuer.url)
        text = token(private("RS"), "RS256", "one")
        leaves = asyncio.ensure_future(tokens.verify(text))
        await asyncio.sleep(0)
        leaves.cancel()
        await asyncio.gather(*(tokens.verify(text) for _ in range(20)))
        assert issuer.asked == 1


async def test_a_withdrawn_key_counts_no_longer_than_ten_minutes():
    """What the issuer no longer publishes is forgotten."""
    clock = Clock()
    async with issuing() as issuer:
        issuer.keys = [jwk(private("RS"), "one")]
        tokens = checker(issuer.url, clock)
        text = token(private("RS"), "RS256", "one")
        await tokens.verify(text)
        issuer.keys = []
        clock.now += 601
        with pytest.raises(BadCredential):
            await tokens.verify(text)


@pytest.mark.parametrize(
    "answer",
    [
        (500, b""),
        (302, b""),
        (200, b"no json"),
        (200, b"[]"),
        (200, b'{"keys": 7}'),
        (200, b" " * (2**20 + 10)),
    ],
)
async def test_without_keys_nobody_is_told_that_the_token_is_bad(answer):
    """The caller hears that they cannot be had, and when to come back; then they are had."""
    clock = Clock()
    async with issuing() as issuer:
        issuer.keys = [jwk(private("RS"), "one")]
        issuer.answer = answer
        tokens = checker(issuer.url, clock)
        text = token(private("RS"), "RS256", "one")
        with pytest.raises(StoreUnavailable) as caught:
            await tokens.verify(text)
        assert caught.value.retryable
        assert issuer.asked == 1
        issuer.answer = None
        assert caught.value.retry_after_s is not None
        clock.now += caught.value.retry_after_s
        assert await tokens.verify(text)
        assert caught.value.retry_after_s == 1


async def test_keys_that_are_had_outlive_an_outage_of_the_issuer():
    """Known keys go on counting while there are no newer ones, and nobody waits for those."""
    clock = Clock()
    async with issuing() as issuer:
        issuer.keys = [jwk(private("RS"), "one")]
        tokens = checker(issuer.url, clock)
        text = token(private("RS"), "RS256", "one")
        await tokens.verify(text)
        issuer.answer = (500, b"")
        clock.now += 601
        assert await tokens.verify(text)
        assert await tokens.verify(text)
        assert issuer.asked == 2
        issuer.hold.clear()
        clock.now += 61
        async with asyncio.timeout(2):
            assert await tokens.verify(text)
        await issuer.asked_in_vain.wait()
        assert issuer.asked == 3
        await tokens.close()


async def test_keys_that_are_had_do_not_outlive_a_day_of_outage():
    """Whoever has a withdrawn key and keeps us from asking for newer ones does not win for ever."""
    clock = Clock()
    async with issuing() as issuer:
        issuer.keys = [jwk(private("RS"), "one")]
        tokens = checker(issuer.url, clock)
        text = token(private("RS"), "RS256", "one")
        await tokens.verify(text)
        issuer.answer = (500, b"")
        for _ in range(10):
            clock.now += 8_600
            assert await tokens.verify(text)
            await tokens._keys._fetch()
        clock.now += 401
        with pytest.raises(StoreUnavailable):
            await tokens.verify(text)
        issuer.answer = None
        clock.now += 2
        assert await tokens.verify(text)


async def test_keys_are_fetched_anew_before_they_are_too_old():
    """From five minutes on, while callers go on with the old ones."""
    clock = Clock()
    async with issuing() as issuer:
        issuer.keys = [jwk(private("RS"), "one")]
        tokens = checker(issuer.url, clock)
        text = token(private("RS"), "RS256", "one")
        await tokens.verify(text)
        issuer.hold.clear()
        clock.now += 301
        assert await tokens.verify(text)
        await issuer.asked_in_vain.wait()
        issuer.hold.set()
        await tokens._keys._fetch()
        clock.now += 299
        assert await tokens.verify(text)
        assert issuer.asked == 2


async def test_a_remembered_token_is_refused_after_its_key_was_withdrawn():
    """That it was good is not remembered longer than the key that said so."""
    clock = Clock()
    async with issuing() as issuer:
        issuer.keys = [jwk(private("RS"), "one"), jwk(private("ES"), "two")]
        tokens = checker(issuer.url, clock)
        text = token(private("RS"), "RS256", "one")
        assert await tokens.verify(text)
        assert await tokens.verify(text)
        issuer.keys = issuer.keys[1:]
        clock.now += 601
        with pytest.raises(BadCredential):
            await tokens.verify(text)


async def test_a_remembered_token_is_checked_with_a_key_that_took_its_keys_name():
    """Another key under the same name did not sign it."""
    clock = Clock()
    async with issuing() as issuer:
        issuer.keys = [jwk(private("RS"), "one")]
        tokens = checker(issuer.url, clock)
        text = token(private("RS"), "RS256", "one")
        assert await tokens.verify(text)
        issuer.keys = [jwk(private("RS", "other"), "one")]
        clock.now += 601
        with pytest.raises(BadCredential):
            await tokens.verify(text)


async def test_a_short_key_that_is_published_checks_nothing():
    """Fewer than 2048 bits of RSA are no signature, whoever publishes them."""
    weak = rsa.generate_private_key(65_537, 1_024)  # noqa: S505 - the point of it
    async with issuing() as issuer:
        issuer.keys = [jwk(weak, "weak")]
        with pytest.warns(InsecureKeyLengthWarning):
            text = token(weak, "RS256", "weak")
        with pytest.raises(BadCredential):
            await checker(issuer.url).verify(text)


async def test_an_issuer_that_is_not_there_is_an_outage():
    """A connection that is refused is said like any other failure, and an open fetch is ended."""
    tokens = checker("http://127.0.0.1:9/jwks")
    with pytest.raises(StoreUnavailable):
        await tokens.verify(token(private("RS"), "RS256", "one"))
    fetching = asyncio.ensure_future(checker("http://127.0.0.1:9/jwks").verify("e30.e30.x"))
    await asyncio.wait([fetching])
    assert isinstance(fetching.exception(), BadCredential | StoreUnavailable)
    await tokens.close()
