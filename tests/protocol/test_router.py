"""The router finds a route, or says what is wrong with the path."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from pool.errors import InvalidRequest, NotFound
from protocol.problems import MethodNotAllowed
from protocol.route import Route
from protocol.router import Router
from protocol.routes import ROUTES
from tests.support.call_ids import CALL_IDS, NO_CALL_IDS

ROUTER = Router(ROUTES)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_every_route_is_found(route: Route) -> None:
    """Each with the ids that its path holds."""
    path = route.path.replace("{", "x-").replace("}", "")
    entry, params = ROUTER.find(route.method, path)
    assert entry.route is route
    assert params == {name: f"x-{name}" for name in entry.names}


@pytest.mark.parametrize(
    "path",
    ["", "/", "/v1", "/v1/", "/v1/turns", "/v1/turns/a/", "/v1/turns/a/events/x", "/x", "//"],
)
def test_an_unknown_path_is_not_found(path: str) -> None:
    """A part too many, too few or an empty one is another path."""
    with pytest.raises(NotFound):
        ROUTER.find("GET", path)


def test_an_unknown_method_names_the_known_ones() -> None:
    """405 tells what the path takes."""
    with pytest.raises(MethodNotAllowed) as caught:
        ROUTER.find("PUT", "/v1/sessions/s1")
    assert caught.value.allow == ("DELETE", "GET")


@pytest.mark.parametrize(
    "part", ["..%2f", "{}", ":", "*", "%00", "%0a", "a%0d", "a" * 10_000, "é", ""]
)
def test_a_malformed_id_is_refused(part: str) -> None:
    """It is 400 and not 404: the id can never exist."""
    with pytest.raises(InvalidRequest):
        ROUTER.find("GET", f"/v1/turns/{part}")


APPROVALS = "/v1/turns/t/approvals"


@pytest.mark.parametrize("call_id", CALL_IDS)
def test_the_id_of_a_call_may_have_any_visible_character(call_id: str) -> None:
    """Percent-encoded; it is one part of the path, whatever it is made of."""
    _, params = ROUTER.find("POST", f"{APPROVALS}/{quote(call_id, safe='')}")
    assert params == {"turn_id": "t", "call_id": call_id}


@pytest.mark.parametrize("call_id", NO_CALL_IDS)
def test_a_malformed_id_of_a_call_is_refused(call_id: str) -> None:
    """Neither control characters nor others that a header could not have; nor a path's own."""
    with pytest.raises(InvalidRequest, match="visible ASCII"):
        ROUTER.find("POST", f"{APPROVALS}/{quote(call_id, safe='')}")


def test_an_id_may_be_percent_encoded() -> None:
    """The encoded form of a letter is the letter."""
    assert ROUTER.find("GET", "/v1/turns/%41b")[1] == {"turn_id": "Ab"}


def test_a_route_cannot_be_there_twice() -> None:
    """A second handler for the same place would never be called."""
    with pytest.raises(ValueError, match="twice"):
        Router((*ROUTES, ROUTES[0]))


def test_paths_are_remembered_up_to_a_number() -> None:
    """However many sessions are asked for, few of their paths are kept; each is found as before."""
    router = Router(ROUTES)
    for number in [*range(2_500), *range(2_500)]:
        entry, params = router.find("POST", f"/v1/sessions/s{number}/turns")
        assert (entry.route.path, params) == (
            "/v1/sessions/{session_id}/turns",
            {"session_id": f"s{number}"},
        )
    assert repr(router) == "<Router [1000 paths at hand]>"


def test_long_paths_are_not_remembered() -> None:
    """A path is kept only if it is short: what is kept is bounded, whoever asks."""
    router = Router(ROUTES)
    escaped = "%41" * 64
    for _ in range(2):
        _, params = router.find("POST", f"/v1/sessions/{escaped}/turns")
        assert params == {"session_id": "A" * 64}
    assert repr(router) == "<Router [0 paths at hand]>"
