"""Images that were removed while received files waited: such a file must not bring its image back."""

import hashlib
import json
from collections.abc import Iterable

from medlike import strict_json
from medlike.archive.storage.database import storage_errors
from medlike.archive.storage.spool import Spool
from medlike.archive.storage.store import Store

_KEY = "withdrawn"  # a setting of the store: digest of a public id -> number of the newest ticket that it goes for


class Withdrawn:
    """The removals that files in the spool have not met yet, as the store notes them."""

    def __init__(self, store: Store) -> None:
        self.store = store
        with storage_errors(store.path):
            facts = strict_json.loads(store.setting(_KEY, "{}"))
            self._numbers = {str(name): int(number) for name, number in facts.items()}

    def note(self, spool: Spool, ids: Iterable[str]) -> None:
        """Withdraw images from the files that wait now; files received later bring them back. Durable on return."""
        numbers = [entry.number for entry in spool.entries()]
        if not numbers:
            return
        newest = max(numbers)
        self._numbers.update((_name(id), newest) for id in ids)
        self.store.query("INSERT OR REPLACE INTO settings VALUES (?, ?)", (_KEY, json.dumps(self._numbers)))

    def holds(self, id: str, number: int) -> bool:
        """Return whether an image was removed after the file with this ticket number had been received."""
        return number <= self._numbers.get(_name(id), -1)

    def clear(self, spool: Spool) -> None:
        """Forget the removals that no waiting file is older than."""
        oldest = min((entry.number for entry in spool.entries()), default=None)
        if self._numbers and (oldest is None or oldest > max(self._numbers.values())):
            self._numbers = {}
            self.store.query("DELETE FROM settings WHERE key = ?", (_KEY,))


def _name(id: str) -> str:
    """A digest, so that no erased id stays in the store."""
    return hashlib.sha256(id.encode()).hexdigest()[:32]
