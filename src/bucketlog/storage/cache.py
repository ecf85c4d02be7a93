"""A least-recently-used cache."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

T = TypeVar("T")


class Cache(Generic[T]):
    """Keeps at most `items_max` items. Thread-safe; two threads may make the same item at the same time."""

    def __init__(self, items_max: int) -> None:
        self._items_max = items_max
        self._items: OrderedDict[Hashable, T] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return the item under a key, making it first if it is missing."""
        with self._lock:
            if key in self._items:
                self._items.move_to_end(key)
                return self._items[key]
        made = make()
        with self._lock:
            self._items[key] = made
            if len(self._items) > self._items_max:
                self._items.popitem(last=False)
        return made
