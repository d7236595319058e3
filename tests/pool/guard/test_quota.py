"""Quotas: how many a tenant may have at a time."""

from __future__ import annotations

import pytest

from pool.errors import ConfigError
from pool.guard.quota import Quota, QuotaLimits


def test_a_tenant_has_at_most_its_quota() -> None:
    """One more is refused until one is given back; other tenants have their own."""
    quota = Quota(QuotaLimits(each=2))

    assert [quota.take("a") for _ in range(3)] == [True, True, False]
    assert quota.take("b")
    quota.give("a")

    assert quota.take("a")
    assert repr(quota) == "<Quota [3 held by 2 tenants]>"


def test_some_tenants_may_have_another_number() -> None:
    """More, fewer, or none at all."""
    quota = Quota(QuotaLimits(each=1, of={"big": 2, "blocked": 0}))

    assert [quota.take("big") for _ in range(3)] == [True, True, False]
    assert not quota.take("blocked")
    assert [quota.take("other") for _ in range(2)] == [True, False]


def test_without_a_limit_everything_is_counted_and_nothing_refused() -> None:
    """A tenant that has nothing is forgotten."""
    quota = Quota(QuotaLimits())

    assert all(quota.take("a") for _ in range(100))
    assert quota.held("a") == 100
    for _ in range(100):
        quota.give("a")
    assert quota.held("a") == 0
    assert repr(quota) == "<Quota [0 held by 0 tenants]>"


def test_what_was_not_taken_cannot_be_given_back() -> None:
    """That would be a defect of whoever does it."""
    with pytest.raises(KeyError):
        Quota(QuotaLimits()).give("a")


@pytest.mark.parametrize("options", [{"each": 0}, {"of": {"a": -1}}])
def test_a_quota_that_is_none_is_refused(options: dict[str, object]) -> None:
    """The error names the option."""
    with pytest.raises(ConfigError, match=r"quota\."):
        QuotaLimits(**options)  # type: ignore[arg-type]
