"""Making the folder of a new archive: whatever interrupts it, the next attempt may begin again."""

from contextlib import closing, suppress
from pathlib import Path

from medlike import files as durable
from medlike.archive.storage.folder import FILE, SENTENCES, BundleFacts, Folder, TextBundleFacts, spool_of
from medlike.archive.storage.identity import Identity, Links
from medlike.archive.storage.lock import FILE as LOCK
from medlike.archive.storage.lock import WriterLock
from medlike.archive.storage.store import Store
from medlike.errors import ArchiveError, ArchiveLocked, BundleError

UNFINISHED = "unfinished"  # there while the archive is being made


def create(
    path: Path,
    bundle: BundleFacts,
    keep_identifiers: bool,
    text: TextBundleFacts | None = None,
    shared: bool = False,
) -> Folder:
    """An empty archive in a new or empty folder, or in one where an attempt was interrupted.

    shared: others may read it, as the umask says; else its owner alone.
    Raises ArchiveError where there is an archive already, or anything else, ArchiveLocked beside another writer.
    """
    _refuse_what_is_there(path)
    durable.make_own_folder(path, shared)
    lock = WriterLock(path)
    lock.take()
    clean = False
    try:
        # Another process may have made one since; what is cleared from here on is nobody's.
        _refuse_what_is_there(path)
        try:
            folder = _create(path, bundle, keep_identifiers, text, shared)
        except BaseException:
            # Half an archive is of no use. What cannot be deleted now, the next attempt clears.
            with suppress(OSError):
                durable.clear(path, keep=(LOCK,))
            raise
        clean = True
    finally:
        lock.release(clean)
    return folder


def discard(path: Path) -> None:
    """Delete a new archive to which nothing was added; one that another process uses meanwhile stays.

    Args:
        path: The folder of the archive, closed here. It stays, empty.
    """
    lock = WriterLock(path)
    try:
        lock.take()
    except ArchiveLocked:
        return
    try:
        folder = Folder.open(path)
        with closing(Store(folder.store)) as store:
            used = store.generation() > 0 or any(folder.spool.iterdir())
        if not used:
            (path / FILE).unlink()
            with suppress(OSError):
                durable.clear(path)
    finally:
        lock.release(clean=True)


def _refuse_what_is_there(path: Path) -> None:
    with durable.disk_errors(path):
        names = {entry.name for entry in path.iterdir()} if path.exists() else set()
    if FILE in names:
        raise ArchiveError(f"{path} holds an archive: open it, or give a new folder")
    if names - {LOCK} and UNFINISHED not in names:
        raise ArchiveError(f"{path} is not empty: give a new folder")


def _create(
    path: Path, bundle: BundleFacts, keep_identifiers: bool, text: TextBundleFacts | None, shared: bool
) -> Folder:
    # Should this not come to its end, the next attempt may clear away what it finds here.
    durable.write(path / UNFINISHED, b"")
    durable.clear(path, keep=(UNFINISHED, LOCK))
    folder = Folder(path, bundle, Identity.create(path / "private").answer, keep_identifiers, text, shared)
    if text is not None and _encodes_sentences(text):
        folder = folder.with_text(text, SENTENCES)
    for part in (folder.pixels, folder.index):
        durable.make_folder(part)
    durable.make_folder(path / spool_of(folder.format), 0o700)
    Links.create(folder.private)
    Store.create(folder.store).close()
    durable.sync_folders([path])
    # Without it the folder is not an archive.
    folder.write()
    (path / UNFINISHED).unlink()
    return folder


def _encodes_sentences(text: TextBundleFacts) -> bool:
    """Return whether fields can be encoded as sentences here: by the installed encoder, or by the bundle's own."""
    from medlike.inference.sentence_weights import text_installed

    try:
        return text_installed() or text.load().carries_sentences
    except BundleError:  # facts of a bundle that is not here
        return False
