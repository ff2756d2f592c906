"""Adding images: sources are read in parallel, encoded in batches, committed in groups.

A group is committed after 256 images or one second: pixels are fsynced, then links, then one transaction of
the store. Whatever ends the run in between (a full disk, an interrupt, a power cut) leaves whole groups;
running the same command again skips the files that were added already.
"""

import hashlib
import json
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from medlike.archive.intake import text_codes
from medlike.archive.intake.conflicts import Conflict, resolved
from medlike.archive.intake.reader import read
from medlike.archive.intake.report import AddReport
from medlike.archive.intake.settings import IntakeSettings
from medlike.archive.session import Loaded
from medlike.archive.storage import pixels as pixel_files
from medlike.archive.storage import record as records
from medlike.archive.storage.identity import Link, Links, Seen
from medlike.archive.storage.pixels import Pixels
from medlike.archive.storage.record import Record
from medlike.archive.storage.rows import ImageRow, NewImage
from medlike.errors import ArchiveFull, ImageError, WorkerError
from medlike.inference.encoding import Encoding, image_size, require_golden
from medlike.types import Progress

if TYPE_CHECKING:
    from medlike.imaging import Prepared, Source

#: Raised where files are read, or texts de-identified, otherwise than before: then `add` reads known files again.
READER = 2

GROUP = 256  # images a commit
PATIENCE = 1.0  # seconds until a smaller group is committed
BATCH = 32  # images encoded at once
WRITES = 16  # pixel files waiting to be written


@dataclass(frozen=True)
class Taken:
    """One image that was read: ready to be encoded. pixels, preview: files to be kept, as bytes. remarks: its own."""

    record: Record
    prepared: "Prepared"
    pixels: bytes | None
    preview: bytes | None
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Refused:
    """A file or frame that cannot be used, with the reason."""

    reason: str


class Finished(NamedTuple):
    """A source that was gone through: the ids of its images, why parts of it were refused, ids that were stored."""

    source: "Source"
    ids: list[str]
    reasons: list[str]
    stored: list[str]


class Intake:
    """One run of `add`. The caller holds the writer's lock."""

    def __init__(
        self,
        loaded: Loaded,
        links: Links,
        pixels: Pixels,
        settings: IntakeSettings,
        progress: Progress[AddReport] | None = None,
    ) -> None:
        """Check that the encoders give the codes of other hosts; raises BundleError if they do not."""
        self.store, self.links, self.pixels, self.identity = loaded.store, links, pixels, loaded.identity
        self.encoder, self.text_encoder, self.bundle = loaded.encoder, loaded.text_encoder, loaded.folder.bundle.digest
        self.sentences = loaded.folder.sentences > 0
        self.settings, self.progress = settings, progress
        require_golden(self.encoder)
        if self.text_encoder is not None:
            self.text_encoder.require_golden()
        self.report = AddReport(
            seconds={"read": 0.0, "encode": 0.0, "commit": 0.0, "total": 0.0}, generation=self.store.generation()
        )
        self._began = time.perf_counter()
        self._batch: list[Taken] = []
        self._group: list[tuple[Taken, Encoding]] = []
        self._oldest = 0.0
        self._ids: set[str] = set()
        self._unchanged: set[str] = set()
        self._replacing: dict[str, tuple[str, str | None]] = {}  # id -> the new path and the stored one
        self._stored: list[str] = []  # of the source at hand: ids of images that were stored as they are
        self._relinks: dict[str, Link] = {}
        self._finished: list[Finished] = []
        self._files: dict[int, Seen] = {}
        self._reread: set[int] = set()  # sources whose file has not changed since it was added
        self.between_groups: Callable[[], None] = lambda: None  # called where nothing waits to be committed
        # Whether an image of a received file, by path and id, was removed before its turn came.
        self.drops: Callable[[str, str], bool] = lambda path, id: False
        self._received = False
        self._settled: Callable[[list[Finished]], None] | None = None
        self._clock = threading.Lock()
        self._writers = ThreadPoolExecutor(4, thread_name_prefix="medlike-write")
        self._writes: deque[Future[None]] = deque()

    def run(
        self,
        sources: "Iterable[Source]",
        received: bool = False,
        settled: "Callable[[list[Finished]], None] | None" = None,
    ) -> AddReport:
        """Take in sources; `received` ones come from the spool: their path is not where they stay.

        settled is called with sources of which everything is committed.
        """
        self._received, self._settled = received, settled

        def load(source: "Source") -> Iterator[Taken | Refused]:
            return self._load(source, received)

        try:
            ids: list[str] = []
            reasons: list[str] = []
            for source, item in read(self._unseen(sources), load, self.settings.workers, self._spent):
                if item is None:
                    self._finished.append(Finished(source, ids, reasons, self._stored))
                    ids, reasons, self._stored = [], [], []
                    self._went_through()
                elif isinstance(item, Refused):
                    self.report.skipped.append((str(source.path), item.reason))
                    reasons.append(item.reason)
                else:
                    self._remark(str(source.path), item.remarks)
                    conflict = self._take(source, item)
                    if conflict is None or conflict.outcome == "replaced":
                        ids.append(item.record.id)
                    else:
                        reasons.append(conflict.reason)
                if self._oldest and time.perf_counter() - self._oldest >= PATIENCE:
                    self._commit()
            self._commit()
        except ArchiveFull as error:
            done = self.report.added + self.report.replaced
            raise ArchiveFull(
                f"{error} ({done} images of this run are safe, generation {self.report.generation}; "
                "the next run goes on from there)"
            ) from error
        finally:
            self._writers.shutdown(wait=True, cancel_futures=True)
            self.report.seconds["total"] = time.perf_counter() - self._began
        return self.report

    # In the main thread

    def _unseen(self, sources: "Iterable[Source]") -> "Iterator[Source]":
        """The sources that are not known to be stored as they are."""
        for source in sources:
            for column, cell in source.dropped.items():
                count, first = self.report.dropped.get(column, (0, cell))
                self.report.dropped[column] = count + 1, first
            file = None if self._received else self._file(source)
            if file:
                seen = self.links.seen(file.path)
                if seen and replace(seen, ids=()) == file and self._all_live(seen.ids):
                    for known in seen.ids:
                        self._leave(known)
                    self._went_through()
                    continue
                self._files[id(source)] = file
                if seen and seen.state == file.state:
                    self._reread.add(id(source))
            yield source

    def _file(self, source: "Source") -> Seen | None:
        """A source's file as the link table remembers it; None where it cannot be looked at."""
        try:
            state = Path(source.path).stat()
        except OSError:
            return None  # reading it will tell why
        return Seen(
            _absolute(str(source.path)),
            f"{state.st_mtime_ns}:{state.st_size}",
            self._said(source),
            (),
        )

    def _went_through(self) -> None:
        self.report.files += 1
        if self.progress and self.report.files % 32 == 0:
            self.progress(self.report)

    def _said(self, source: "Source") -> str:
        """Digest of everything but the file that decides what is stored of it."""
        facts = {
            "metadata": records.plain(source.metadata),
            "texts": records.plain(source.texts),
            "identifiers": records.plain(source.identifiers),
            "boxes": records.plain(source.boxes),
            "reader": READER,
            "settings": [self.settings.pixels, self.settings.frames, self.settings.keep_identifiers],
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def _all_live(self, ids: Sequence[str]) -> bool:
        """Return True if all images are stored and linked to their sources."""
        live = all(self.store.select("id = ? AND removed IS NULL", (id,)) for id in ids)
        return live and self.links.find(ids).keys() == set(ids)

    def _leave(self, id: str) -> None:
        """Count an unchanged image, which several files may have, once."""
        if id not in self._unchanged:
            self._unchanged.add(id)
            self.report.unchanged += 1

    def _remark(self, path: str, remarks: tuple[str, ...]) -> None:
        """List the remarks on an image; those that every frame of a file repeats, once."""
        listed = self.report.remarks
        recent = listed[-len(remarks) :] if remarks else []
        if recent != [(path, remark) for remark in remarks]:
            listed += ((path, remark) for remark in remarks)

    def _take(self, source: "Source", taken: Taken) -> Conflict | None:
        """Prepare an image to be committed unless it is stored already; return its conflict with the stored one."""
        path, record = str(source.path), taken.record
        if self.drops(path, record.id):
            return None
        if record.id in self._ids:
            self._commit()  # the same id twice in a group: the second is judged against the first
        live = self.store.find(record.id)
        conflict = None
        if live is not None:
            link = self._relinks.get(record.id) or self.links.find([record.id]).get(record.id)
            stored = None if link is None else link.path
            # A file that is only read again, by other rules or with another manifest, is the stored image itself.
            if id(source) not in self._reread or stored != record.link.path:
                settings = self.settings
                conflict = resolved(path, stored, live, record, settings.on_conflict, self._received)
            if conflict is not None:
                self.report.conflicts.append(conflict)
                if conflict.outcome == "refused":
                    self.report.skipped.append((path, conflict.reason))
                if conflict.outcome != "replaced":
                    return conflict
            elif self._known(path, stored, link is None, live, record):
                self._stored.append(record.id)
                return None
            self._replacing[record.id] = path, stored
        self._oldest = self._oldest or time.perf_counter()
        self._ids.add(record.id)
        self._batch.append(taken)
        self._keep(taken)
        if len(self._batch) >= BATCH:
            self._encode()
        if len(self._group) >= GROUP:
            self._commit()
        return conflict

    def _known(self, path: str, stored: str | None, unlinked: bool, live: ImageRow, record: Record) -> bool:
        """Return True if a stored image stays as it is, and count it as unchanged or as a duplicate."""
        elsewhere = stored is not None and stored != record.link.path
        equal = self._equal(live, record)
        if elsewhere and (equal or record.by_pixels):
            here = record.link.path is not None and record.columns["kind"] == live.kind == "reference"
            if here and stored is not None and not os.path.lexists(stored):
                self._leave(record.id)
                self._relink(record)  # the file has moved here
            else:
                self.report.duplicates.append((path, record.id))
            return True
        if equal:
            self._leave(record.id)
            if unlinked:
                self._relink(record)
        return equal

    def _relink(self, record: Record) -> None:
        self._relinks[record.id] = record.link
        self.report.relinked += 1
        self._oldest = self._oldest or time.perf_counter()

    def _equal(self, live: ImageRow, record: Record) -> bool:
        if live.kind == "reference" and record.columns["kind"] == "copy":
            return False  # asked to keep the pixels this time
        return (
            live.pixels == record.columns["pixels"]
            and records.same(live.metadata, record.columns["metadata"])
            and records.same(live.facts, record.columns["facts"])
            and self.store.texts(live.row) == dict(record.texts)
        )

    def _keep(self, taken: Taken) -> None:
        """Write pixels and preview while others are encoded: fsync takes its time."""
        if taken.pixels is not None:
            digest = taken.record.columns["pixels"]
            self._writes.append(self._writers.submit(self.pixels.write, digest, taken.pixels))
        if taken.preview is not None:
            self._writes.append(self._writers.submit(self.pixels.write_preview, taken.preview))
        while len(self._writes) > WRITES:
            self._writes.popleft().result()

    def _encode(self) -> None:
        if self._batch:
            began = time.perf_counter()
            encodings = self.encoder.encode([taken.prepared for taken in self._batch])
            self._group += [(taken, encodings[i]) for i, taken in enumerate(self._batch)]
            self._batch = []
            self.report.seconds["encode"] += time.perf_counter() - began

    def _commit(self) -> None:
        self._encode()
        began = time.perf_counter()
        group, self._group, self._ids, self._oldest = self._group, [], set(), 0.0
        replacing, self._replacing = self._replacing, {}
        relinks, self._relinks = self._relinks, {}
        self.links.write(relinks.values())
        if group:
            while self._writes:
                self._writes.popleft().result()
            self.pixels.sync()
            self.links.write(taken.record.link for taken, _ in group)
            replaced, rows = [], []
            codes = None
            if self.text_encoder is not None:
                encoded = [(taken.record, encoding) for taken, encoding in group]
                codes = text_codes.coded(self.text_encoder, encoded, self.sentences)
            with self.store.commit("add") as commit:
                for taken, encoding in group:
                    if commit.remove(taken.record.id):
                        replaced.append((*replacing[taken.record.id], taken.record.id))
                    columns = {**taken.record.columns, "predicted_modality": encoding.modality}
                    image = NewImage(columns, records.of_encoding(encoding), taken.record.texts)
                    rows.append(commit.add(image, self.bundle))
                if codes is not None:
                    codes.write(commit, rows)
            self.report.generation = commit.generation
            self.report.texts += sum(len(taken.record.texts) for taken, _ in group)
            self.report.deidentified += sum(taken.record.replaced for taken, _ in group)
            self.report.replaced += len(replaced)
            self.report.replacements += replaced
            self.report.added += len(group) - len(replaced)
        self._settle()
        self.report.seconds["commit"] += time.perf_counter() - began
        if group:
            self.between_groups()
        if self.progress:
            self.progress(self.report)

    def _settle(self) -> None:
        """Remember the files whose every image is committed, so that the next run skips them."""
        finished, self._finished = self._finished, []
        whole = []
        for source, ids, reasons, _ in finished:
            # As the file was before it was read: should it have changed meanwhile, it is read again.
            file = self._files.pop(id(source), None)
            self._reread.discard(id(source))
            if file and ids and not reasons:
                whole.append(replace(file, ids=tuple(ids)))
        self.links.write(seen=whole)
        if self._settled and finished:
            self._settled(finished)

    # In the reading threads

    def _spent(self, seconds: float) -> None:
        with self._clock:
            self.report.seconds["read"] += seconds

    def _load(self, source: "Source", received: bool) -> Iterator[Taken | Refused]:
        from medlike import imaging

        images = imaging.load(source, self.settings.frames, self.settings.decoding)
        path = None if received else _absolute(str(source.path))
        while True:
            try:
                image = next(images)
                prepared = imaging.prepare(image, image_size(self.encoder))
                kind = "copy" if received else self.settings.pixels
                record = records.of_image(image, self.identity, kind, self.settings.keep_identifiers, path)
                data = imaging.encode_pixels(image.pixels) if kind == "copy" else None
                preview = None
                if kind == "reference":
                    preview = pixel_files.encode_preview(image)
                    record.columns["preview"] = pixel_files.preview_name(preview)
            except StopIteration:
                return
            except ImageError as error:
                yield Refused(str(error))
                return
            except WorkerError:
                raise  # it concerns every file
            except Exception as error:
                # A decoder's own complaint; the batch goes on.
                yield Refused(f"{type(error).__name__}: {error}")
                return
            yield Taken(record, prepared, data, preview, image.remarks)


def _absolute(path: str) -> str:
    return os.path.abspath(path)  # noqa: PTH100 - resolve() would follow links away from the name given
