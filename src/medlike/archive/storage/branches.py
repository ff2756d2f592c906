"""Branches: a restored archive shares the generations of its backup, and those that follow are its own.

An archive that was never restored has one trunk. Each restore begins a branch after the newest generation of the
backup, so the archive and its copies can tell apart what each committed under the same number.
"""

import json
import secrets
from dataclasses import asdict, dataclass

from medlike import strict_json
from medlike.archive.storage.database import storage_errors, transaction
from medlike.archive.storage.store import Store
from medlike.errors import ArchiveError

SETTING = "branches"  # in the store: JSON, oldest first


@dataclass(frozen=True)
class Branch:
    """One branch of an archive.

    Attributes:
        id: 32 random hex digits.
        since: The newest generation that it shares with the archive it was restored from.
    """

    id: str
    since: int


def branches(store: Store) -> list[Branch]:
    """Return the branches that lead to an archive, oldest first; none if it was never restored.

    Raises:
        ArchiveError: The setting is damaged.
    """
    try:
        return [Branch(str(each["id"]), int(each["since"])) for each in strict_json.loads(store.setting(SETTING, "[]"))]
    except (ValueError, KeyError, TypeError) as error:
        raise ArchiveError(f"the branches of the archive are damaged ({error}): restore it from a backup") from None


def begin_branch(store: Store) -> Branch:
    """Begin a branch after the newest generation of a store that was copied from a backup, and return it."""
    branch = Branch(secrets.token_hex(16), store.generation())
    chain = json.dumps([asdict(each) for each in (*branches(store), branch)])
    # No generation of its own: a restored archive is at the generation of its backup.
    with storage_errors(store.path), transaction(store.connection):
        store.connection.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (SETTING, chain))
    return branch
