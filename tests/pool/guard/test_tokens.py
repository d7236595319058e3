from __future__ import annotations

import base64
import json

import jwt
import msgspec
import pytest

from pool.errors import ConfigError
from pool.guard.caller import BadCredential
from pool.guard.token_keys import token_checker
from pool.guard.token_rules import TokenRules
from pool.guard.tokens import StaticKey, Tokens
from pool.turn import Principal
from tests.support.tokens import (
    AUDIENCE,
    ISSUER,
    SECRET,
    claims,
    pem,
    private,
    private_pem,
    token,
)


def rules(*algorithms, **options):
    """Rules for tokens of the issuer."""
    given = {"algorithms": algorithms or ("HS256",), "audience": AUDIENCE, "issuer": ISSUER}
    return TokenRules(**{**given, "key": SECRET, **options})


async def refused(text, chosen=None):
    """Why a token is refused."""
    with pytest.raises(BadCredential) as caught:
        await token_checker(chosen or rules()).verify(text)
    return str(caught.value)


@pytest.mark.parametrize("algorithm", ["HS256", "RS256", "RS512", "ES256", "EdDSA"])
async def test_a_good_token_says_who_calls(algorithm):
    """Each family of algorithms, with the one key of the configuration."""
    if algorithm.startswith("HS"):
        signs, key = SECRET, SECRET
    else:
        signs = private(algorithm[:2])
        key = pem(signs)
    checker = token_checker(rules(algorithm, key=key))
    caller = await checker.verify(token(signs, algorithm, exp=2_000_000_000))
    assert caller.principal == Principal("acme", "ann", ("user",))
    # a token cannot be withdrawn: what matters later is when it ends, leeway included
    assert (caller.credential, caller.expires_at) == ("jwt:2000000030", 2_000_000_030)
    await checker.close()


async def test_an_expired_token_has_the_leeway_and_no_more():
    """Clocks may differ by 30 seconds."""
    checker = token_checker(rules())
    now = claims()["iat"]
    assert await checker.verify(token(exp=now - 20))
    assert await refused(token(exp=now - 40)) == "the token has expired; sign in again"


@pytest.mark.parametrize(
    "changed",
    [
        {"aud": "another"},
        {"aud": ["another", "third"]},
        {"aud": None},
        {"aud": ""},
        {"aud": {"a": 1}},
        {"iss": "https://evil.example"},
        {"iss": None},
        {"iss": ISSUER + "/"},
        {"sub": None},
        {"exp": None},
        {"exp": 1},
        {"exp": "soon"},
        {"exp": []},
        {"nbf": 2**40},
        {"iat": 2**40},
        {"tenant": None},
        {"tenant": "../other"},
        {"tenant": "a" * 65},
        {"tenant": ["acme"]},
        {"sub": "a b"},
        {"sub": "x" * 200},
        {"sub": "line\nbreak"},
    ],
)
async def test_a_token_that_says_the_wrong_thing_is_refused(changed):
    """And nothing of it is quoted."""
    text = token(**changed)
    said = await refused(text)
    assert text not in said and "evil" not in said and "other" not in said


async def test_one_of_several_audiences_is_enough():
    """A token may be for others as well."""
    assert await token_checker(rules()).verify(token(aud=["x", AUDIENCE]))


async def test_an_unsigned_token_is_refused():
    """`alg: none`, in any spelling, with or without a signature."""
    for alg in ("none", "None", "NONE", "nOnE"):
        head = base64.urlsafe_b64encode(json.dumps({"alg": alg, "typ": "JWT"}).encode())
        body = base64.urlsafe_b64encode(json.dumps(claims()).encode())
        for signature in (b"", b"x"):
            await refused(b".".join([head, body, signature]).replace(b"=", b"").decode())


def forged_with_a_public_key(public):
    """A token whose HMAC secret is a public key, signed by hand: the library would not."""
    import hmac
    from hashlib import sha256

    def part(data):
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    signed = part(b'{"alg":"HS256","typ":"JWT"}') + b"." + part(msgspec.json.encode(claims()))
    signature = part(hmac.new(public.encode(), signed, sha256).digest())
    return (signed + b"." + signature).decode()


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
async def test_a_public_key_is_no_secret(algorithm):
    """HS/RS confusion: a token signed with the public key as an HMAC secret is refused."""
    public = pem(private(algorithm[:2]))
    await refused(forged_with_a_public_key(public), rules(algorithm, key=public))


async def test_another_algorithm_of_the_same_key_is_refused():
    """What is not listed does not count, though the key could do it."""
    signs = private("RS")
    await refused(token(signs, "RS512"), rules("RS256", key=pem(signs)))
    await refused(token(SECRET, "HS512"), rules("HS256"))


async def test_somebody_elses_key_is_refused():
    """As is a token that was changed."""
    await refused(token("x" * 64))
    await refused(token(private("RS", "other"), "RS256"), rules("RS256", key=pem(private("RS"))))
    head, _, signature = token().split(".")
    body = base64.urlsafe_b64encode(json.dumps(claims(tenant="other")).encode()).decode()
    await refused(".".join([head, body.rstrip("="), signature]))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "a.b",
        "a.b.c",
        "....",
        "eyJhbGciOiJIUzI1NiJ9..",
        "e30.e30.e30",
        "W10.W10.W10",
        "x" * 10_000,
        base64.urlsafe_b64encode(b"[" * 6_000).decode() + ".e30.x",
    ],
)
async def test_what_is_no_token_is_refused(text):
    """Whatever it is, nothing breaks."""
    await refused(text)


@pytest.mark.parametrize("number", ["Infinity", "NaN", "1e999", "9" * 400, "9" * 5_000])
async def test_numbers_that_are_none_are_refused(number):
    """JSON of Python knows them; a signed token may have them all the same."""
    body = json.dumps(claims(exp="EXP")).replace('"EXP"', number).encode()
    text = jwt.api_jws.encode(body, SECRET, algorithm="HS256", headers={"typ": "JWT"})
    await refused(text)


async def test_that_a_token_was_good_is_remembered_until_its_end():
    """Leeway included, and no longer: then it is checked like any other, and refused."""
    end = 2_000_000_000
    now = [end + 29.0]
    checker = Tokens(rules(), StaticKey(rules()), wall=lambda: now[0])
    text = token(exp=end)
    caller = await checker.verify(text)
    assert await checker.verify(text) is caller
    now[0] = end + 30.0
    assert await checker.verify(text) is not caller


async def test_so_many_tokens_are_remembered():
    """The oldest is forgotten first, and what is kept is none that could be used."""
    checker = Tokens(rules(), StaticKey(rules()), remembered_max=2)
    texts = [token(sub=name) for name in ("ann", "bob", "eve")]
    callers = [await checker.verify(text) for text in texts]
    assert len(checker._good) == 2
    assert not any(text in repr(vars(checker)) for text in texts)
    assert await checker.verify(texts[2]) is callers[2]
    assert await checker.verify(texts[0]) is not callers[0]


async def test_a_token_that_is_too_long_is_refused():
    """However good it is: nobody has to read it."""
    checker = token_checker(rules())
    assert await checker.verify(token(more="x" * 5_000))
    with pytest.raises(BadCredential):
        await checker.verify(token(more="x" * 7_000))


@pytest.mark.parametrize("kid", [7, ["a"], "x" * 300, "a b", "a\n"])
async def test_a_name_of_a_key_that_is_none_is_refused(kid):
    """Before any key is looked for."""
    head = base64.urlsafe_b64encode(json.dumps({"alg": "HS256", "kid": kid}).encode()).decode()
    await refused(f"{head.rstrip('=')}.e30.x")


@pytest.mark.parametrize(
    ("given", "had"),
    [
        (["pool-admin"], ("user", "operator", "admin")),
        ("read pool-operator", ("user", "operator")),
        (["support", "pool-operator"], ("user", "operator")),
        (["admin"], ("user",)),
        ("admin", ("user",)),
        (None, ("user",)),
        ({"pool-admin": True}, ("user",)),
        ([["pool-admin"], 7], ("user",)),
    ],
)
async def test_roles_are_what_the_configuration_says(given, had):
    """The issuer's words mean what is listed, and nothing else: its `admin` is none of ours."""
    meaning = {"pool-admin": "admin", "pool-operator": "operator"}
    caller = await token_checker(rules(roles=meaning)).verify(token(roles=given))
    assert caller.principal.roles == had


async def test_claims_are_found_where_the_configuration_says():
    """By their name, dots and slashes included, or on the way that the dots lead."""
    chosen = rules(
        tenant_claim="https://acme.example/tenant",
        user_claim="email",
        roles_claim="realm_access.roles",
        roles={"boss": "admin"},
    )
    text = token(
        **{"https://acme.example/tenant": "t1"}, email="a@b.c", realm_access={"roles": ["boss"]}
    )
    principal = (await token_checker(chosen).verify(text)).principal
    assert (principal.tenant, principal.user) == ("t1", "a@b.c")
    assert "admin" in principal.roles
    await refused(token(tenant="acme"), chosen)


async def test_one_tenant_can_be_everybodys():
    """What the token says of a tenant then does not matter."""
    caller = await token_checker(rules(tenant="all")).verify(token(tenant="../x"))
    assert caller.principal.tenant == "all"


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"algorithms": ()}, "algorithms"),
        ({"algorithms": ("HS256", "RS256")}, "algorithms"),
        ({"key": "short"}, "key"),
        ({"key": "x" * 31}, "key"),
        ({"algorithms": ("HS512",), "key": "x" * 63}, "key"),
        ({"key": pem(private("RS"))}, "key"),
        ({"algorithms": ("RS256",), "key": "x" * 64}, "key"),
        ({"algorithms": ("RS256",), "key": pem(private("ES"))}, "key"),
        ({"algorithms": ("ES256",), "key": pem(private("RS"))}, "key"),
        ({"algorithms": ("EdDSA",), "key": pem(private("RS"))}, "key"),
        ({"algorithms": ("RS256",), "key": private_pem(private("RS"))}, "key"),
        ({"key": ""}, "key"),
        ({"jwks_url": "https://issuer.example/jwks"}, "key"),
        ({"key": "", "jwks_url": "https://issuer.example/jwks"}, "algorithms"),
        ({"key": "", "jwks_url": "http://issuer.example", "algorithms": ("RS256",)}, "jwks_url"),
        ({"key": "", "jwks_url": "file:///etc/passwd", "algorithms": ("RS256",)}, "jwks_url"),
        ({"audience": ""}, "audience"),
        ({"issuer": ""}, "issuer"),
        ({"leeway_s": -1.0}, "leeway_s"),
        ({"leeway_s": float("inf")}, "leeway_s"),
    ],
)
def test_rules_that_are_not_safe_are_refused_at_the_start(options, named):
    """The option is named; the key is not quoted."""
    given = {"algorithms": ("HS256",), "key": SECRET, "audience": AUDIENCE, "issuer": ISSUER}
    with pytest.raises(ConfigError) as caught:
        token_checker(TokenRules(**{**given, **options}))
    assert caught.value.option == named
    if named == "key":
        assert caught.value.value == "..."


def test_a_short_rsa_key_is_refused_at_the_start():
    """Fewer than 2048 bits are no signature any more."""
    from cryptography.hazmat.primitives.asymmetric import rsa

    weak = rsa.generate_private_key(65_537, 1_024)  # noqa: S505 - the point of it
    with pytest.raises(ConfigError, match="too short"):
        token_checker(rules("RS256", key=pem(weak)))


def test_nothing_shows_a_key():
    """Neither the rules nor what checks by them."""
    assert SECRET not in repr(rules()) + repr(token_checker(rules()))
    assert SECRET not in str(list(rules().__rich_repr__()))
