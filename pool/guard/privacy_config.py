"""Whose personal data and secrets are kept out of logs, and whose also out of models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

from msgspec import Struct

from pool.errors import ConfigError
from pool.guard.redact_spans import KINDS, Kind

Mode = Literal["off", "logs", "model"]


class PrivacyConfig(Struct, frozen=True, kw_only=True):
    """What is kept from whom. `tenants`: those for whom another mode holds than `default`.

    `off`: nothing is done. `logs`: what we log does not hold what is found. `model`: nor does what
    an agent is given for its turns; it and its model see placeholders, and what comes back is
    restored.

    As logs do not know whose lines they are, all lines are redacted if one mode is not `off`.
    `region`: two capitals that name a country; phone numbers are also found as they are written
    there.
    """

    default: Mode = "off"
    tenants: Mapping[str, Mode] = {}
    kinds: tuple[Kind, ...] = KINDS
    region: str | None = None

    def __post_init__(self) -> None:
        modes = {f"tenants.{tenant}": mode for tenant, mode in self.tenants.items()}
        for option, mode in {"default": self.default, **modes}.items():
            if mode not in get_args(Mode):
                raise ConfigError(option, mode, "write off, logs or model")
        for kind in self.kinds:
            if kind not in KINDS:
                raise ConfigError("kinds", kind, f"there is no such kind; there is: {KINDS}")

    def mode_of(self, tenant: str) -> Mode:
        """The tenant's mode."""
        return self.tenants.get(tenant, self.default)

    @property
    def off(self) -> bool:
        """Whether nothing is done for anybody."""
        return self.default == "off" and all(mode == "off" for mode in self.tenants.values())
