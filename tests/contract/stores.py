"""The stores that have to keep the contract. A new store is one more module with its `STORES`.

A store with a thread or a socket of its own is marked: `marks=pytest.mark.real_time`.
"""

from __future__ import annotations

import pytest

from tests.contract import stores_memory
from tests.contract.opened import Opening as Opening

STORES = [*stores_memory.STORES]

every_store = pytest.mark.parametrize("opening", STORES)
