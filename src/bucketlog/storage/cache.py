"""A cache: what was used last is kept, a bounded number of things."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

T = TypeVar("T")


class Cache(Generic[T]):
    """Keeps at most `items_max` things; safe for several threads, two of which may make the same thing at once."""

    def __init__(self, items_max: int) -> None:
        self._items_max = items_max
        self._items: OrderedDict[Hashable, T] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what is kept under a key, or make it."""
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
