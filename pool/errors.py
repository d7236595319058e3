"""Every error the engine raises, in one tree.

    PoolError                    has code, retryable, retry_after_s, turn_id
    ├── InvalidRequest           the request itself is wrong
    ├── NotFound                 no such agent, session, turn or call (or it is another tenant's)
    ├── Forbidden                the principal may not
    ├── Conflict                 the thing exists, or is not in the state this needs
    │   └── SessionBusy          `if_busy="reject"` and a turn is running or waiting
    ├── TooLarge                 over a limit on size
    ├── IdempotencyMismatch      the key was used with another body
    ├── Refused                  not admitted now; nothing was stored
    │   ├── TenantQueueFull      this tenant's share of the queue is used up
    │   ├── RateLimited          the caller asks more often, or uses more, than it may
    │   ├── BudgetExceeded       it would cost more than is left to spend
    │   ├── Overloaded           the pool is full, or the deadline cannot be met
    │   ├── AgentDegraded        the agent's actors keep failing
    │   └── Draining             the pool is shutting down
    ├── StoreUnavailable         the store does not answer
    │   └── LeaseLost            another owner holds the session: this write was refused
    ├── DeadlineExceeded         the turn's deadline passed
    ├── AgentFailed              the agent could not answer
    │   ├── LimitExceeded        its answer is larger than a turn may be
    │   └── ProviderError        the model's provider said no
    │       ├── ProviderOverloaded, ProviderRateLimited, ProviderTimeout     (lower the limit)
    │       ├── ModelUnusable        (this model only: another one may do)
    │       └── ProviderBadRequest, ProviderAuthentication, ContextTooLong
    ├── DeadLetter               the turn crashed its actor too often
    └── Internal                 a defect of ours
    ConfigError                  a mistake in the configuration: option, value, remedy

`code` is the word that goes over the wire; what status it has there is the doors' business.
`str(error)` is safe to show to a caller: it never holds the text of somebody else's exception.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar


class PoolError(Exception):
    """Base of what the engine raises.

    `retryable` says whether the same call may succeed later, `retry_after_s` (seconds) when.
    """

    code: ClassVar[str] = "internal"
    retryable: bool = False

    def __init__(
        self, detail: str, *, retry_after_s: float | None = None, turn_id: str | None = None
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after_s = retry_after_s
        self.turn_id = turn_id


class InvalidRequest(PoolError):
    """The request itself is wrong; `field` names the part that is."""

    code = "invalid_request"

    def __init__(self, detail: str, *, field: str | None = None) -> None:
        super().__init__(detail)
        self.field = field


class NotFound(PoolError):
    """There is no such thing, or it belongs to somebody else."""

    code = "not_found"


class Forbidden(PoolError):
    """The principal is known and may not do this."""

    code = "forbidden"


class Conflict(PoolError):
    """The thing exists already, or is not in the state that this call needs."""

    code = "conflict"


class SessionBusy(Conflict):
    """The session has a turn already and the caller asked not to queue behind it."""

    code = "session_busy"
    retryable = True


class TooLarge(PoolError):
    """Something the caller sent is over a limit on size."""

    code = "too_large"


class IdempotencyMismatch(PoolError):
    """The idempotency key was used in this session with another body."""

    code = "idempotency_mismatch"


class Refused(PoolError):
    """The turn was not admitted. It touched no actor and left nothing in the store."""

    code = "overloaded"
    retryable = True


class TenantQueueFull(Refused):
    """The tenant has its whole share of the queue in use."""

    code = "tenant_queue_full"


class RateLimited(Refused):
    """The caller asks more often, or uses more, than it may. `states`: how it stands (`RateState`s
    of the guard).
    """

    code = "rate_limited"

    def __init__(
        self, detail: str, *, retry_after_s: float | None = None, states: Sequence[Any] = ()
    ) -> None:
        super().__init__(detail, retry_after_s=retry_after_s)
        self.states = tuple(states)


class BudgetExceeded(Refused):
    """The turn does not fit into a budget."""

    code = "budget_exceeded"


class Overloaded(Refused):
    """The queue is full, or the turn would not be answered before its deadline."""

    code = "overloaded"


class AgentDegraded(Refused):
    """The agent's actors failed too often; it is tried again at intervals."""

    code = "agent_degraded"


class Draining(Refused):
    """The pool is shutting down and takes no more turns."""

    code = "draining"


class StoreUnavailable(PoolError):
    """The store did not answer, or answered with a fault of its own."""

    code = "store_unavailable"
    retryable = True


class LeaseLost(StoreUnavailable):
    """The session is held by another owner or a later epoch: the write was refused."""


class DeadlineExceeded(PoolError):
    """The turn's deadline passed before it ended."""

    code = "deadline_exceeded"
    retryable = True


class AgentFailed(PoolError):
    """The agent could not answer. Agents may raise it themselves, with a detail fit for callers."""

    code = "agent_failed"


class LimitExceeded(AgentFailed):
    """The agent said more than one turn may hold (bytes or events)."""


class ProviderError(AgentFailed):
    """The provider of the model behind the agent refused or failed."""

    @property
    def of_the_model(self) -> bool:
        """Whether the model failed, or its provider, and not what it was asked: another may do."""
        return self.retryable


class ProviderOverloaded(ProviderError):
    """The provider says it is overloaded (503, 529 and the like)."""

    retryable = True


class ProviderRateLimited(ProviderOverloaded):
    """The provider says we call too often (429); `retry_after_s` is what it asked for."""


class ProviderTimeout(ProviderOverloaded):
    """The provider did not answer in time."""


class ModelUnusable(ProviderError):
    """The model is not there (404), or what comes from there is no answer of a model. Asked again
    it would most likely be the same.
    """

    @property
    def of_the_model(self) -> bool:
        """It did."""
        return True


class ProviderBadRequest(ProviderError):
    """The provider found the request itself wrong (400, 422)."""


class ProviderAuthentication(ProviderError):
    """The provider did not accept the credentials (401, 403)."""


class ContextTooLong(ProviderError):
    """The conversation does not fit into the model's context."""


class DeadLetter(PoolError):
    """The turn crashed its actor or process as often as is allowed and will not run again by
    itself.
    """

    code = "dead_letter"


class Internal(PoolError):
    """A defect of ours, not of the caller or the agent."""

    code = "internal"


class ConfigError(Exception):
    """A mistake in the configuration: which option, which value, and what to write instead."""

    def __init__(self, option: str, value: object, remedy: str) -> None:
        super().__init__(f"{option} = {value!r}: {remedy}")
        self.option = option
        self.value = value
        self.remedy = remedy
