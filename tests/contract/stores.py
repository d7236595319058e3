"""The stores that have to keep the contract. A new store is one more module with its `STORES`.

A store with a thread or a socket of its own is marked: `marks=pytest.mark.real_time`.
"""

from __future__ import annotations

import pytest

from tests.contract import stores_memory, stores_redis, stores_sqlite
from tests.contract.opened import Opening as Opening

STORES = [*stores_memory.STORES, *stores_sqlite.STORES, *stores_redis.STORES]

every_store = pytest.mark.parametrize("opening", STORES)
