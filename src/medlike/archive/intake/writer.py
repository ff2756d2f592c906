"""Everything that writes to an open archive, one writer at a time."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from medlike.archive.intake import fitting, switching
from medlike.archive.intake.conflicts import OnConflict
from medlike.archive.intake.drain import arrivals, take_in, withdraw
from medlike.archive.intake.ingest import Intake
from medlike.archive.intake.reindex import ReindexReport
from medlike.archive.intake.report import AddReport
from medlike.archive.intake.settings import Fitting, IntakeSettings
from medlike.archive.session import Bundles
from medlike.archive.storage import removal, room, upgrade, upkeep
from medlike.archive.storage.database import log_emptied
from medlike.archive.storage.fits import FitReport
from medlike.archive.storage.folder import FORMAT
from medlike.archive.storage.identity import KEY_FILE
from medlike.archive.storage.lock import WriterLock
from medlike.archive.storage.spool import Spool
from medlike.archive.storage.upgrade import UpgradeReport
from medlike.archive.storage.withdrawn import Withdrawn
from medlike.errors import ArchiveLocked, BundleError, MedlikeError, QueryError
from medlike.types import Progress

if TYPE_CHECKING:
    from medlike.archive.intake.text_codes import TextReport
    from medlike.bundle import Bundle
    from medlike.imaging import Decoding, Frames
    from medlike.inference.encoding import Encodes


class ArchiveWriter:
    """Write to an archive; each method holds the lock while it works. `wait` is in seconds, as in `Archive`."""

    def __init__(self, bundles: Bundles, spool: Spool, lock: WriterLock) -> None:
        self.bundles, self.spool, self.lock = bundles, spool, lock
        self.store, self.links, self.pixels = bundles.store, bundles.links, bundles.pictures.pixels

    @contextmanager
    def writing(self, wait: float = 0.0, short: bool = False) -> Iterator[None]:
        """Hold the lock, and first finish what an interrupted writer left.

        Args:
            wait: Seconds to wait for another writer.
            short: If true, a long write of another process lets this one go first.
        """
        died = self.lock.take(wait, short)
        clean = False
        try:
            self.bundles.write()
            self.store.upgrade()
            if died:
                self._recover()
                upkeep.sweep_index(self.bundles.current().folder.index)
            # While a reader holds the log it cannot be finished; other writes need not wait for that.
            if removal.unfinished(self.store) and log_emptied(self.store.connection, patience=1.0):
                self._finish_erasure()
            yield
            clean = True
        finally:
            self.lock.release(clean)

    def add(
        self,
        sources: Iterable[str | Path] | str | Path,
        settings: IntakeSettings,
        segmentations: bool = False,
        progress: Progress[AddReport] | None = None,
        wait: float = 0.0,
    ) -> AddReport:
        """Commit what the spool holds, then the images of sources, and return a report of the latter."""
        from medlike.imaging import discover

        places = [sources] if isinstance(sources, str | Path) else list(sources)
        with self.writing(wait):
            received = self._drain(decoding=settings.decoding)
            intake = self._intake(settings, progress)
            intake.report.conflicts += received.conflicts
            intake.between_groups = lambda: self._give_way(intake.bundle)
            report = intake.run(discover(places, settings.frames, intake.report.archives.append, segmentations))
            self._refresh(report, settings.fit, progress)
            self.bundles.current().indexes.keep_neighbours()
        return report

    def drain(
        self,
        frames: "Frames",
        progress: Progress[AddReport] | None,
        wait: float,
        decoding: "Decoding",
        on_conflict: OnConflict | None,
        fit: Fitting,
        limit: int | None = None,
    ) -> AddReport:
        """Commit what the spool holds, or the oldest files of it, and return a report."""
        with self.writing(wait, short=True):
            report = self._drain(frames, progress, decoding, on_conflict, limit)
            self._refresh(report, fit, progress)
            self.bundles.current().indexes.keep_neighbours(anyhow=False)
        return report

    def fit(
        self, bits: int | None, progress: Progress[FitReport] | None, wait: float, labels: str | None
    ) -> FitReport:
        """Fit codes to the images and switch to them, and return a report."""
        with self.writing(wait):
            report = fitting.fit(self.bundles, "asked", bits, progress, labels)
            self.bundles.current().indexes.keep_neighbours()
        return report

    def remove(self, ids: Iterable[str] | str, erase: bool, wait: float) -> removal.RemovalReport:
        """Remove or erase images, and return a report. What was received before and waits is not committed first."""
        ids = [ids] if isinstance(ids, str) else list(ids)
        with self.writing(wait, short=True):
            if erase:
                room.to_erase(self.bundles.current().folder).require()
            Withdrawn(self.store).note(self.spool, ids)
            if not erase:
                return removal.remove(self.store, self.links, ids)
            report = removal.announce_erasure(self.store, ids)
            links = self.links.find(ids)
            if report.erased:
                report.fit = self._finish_erasure()
            self._withdraw(ids, [str(link.identifiers.get("sop_uid") or "") for link in links.values()])
        return report

    def _withdraw(self, ids: list[str], uids: list[str]) -> None:
        """Delete what waits in the spool of erased images."""
        if (self.bundles.current().folder.private / KEY_FILE).exists():
            by_pixels = len([uid for uid in uids if uid]) < len(ids)
            withdraw(self.spool, self.bundles.current().identity, ids, uids, by_pixels)

    def compact(self, wait: float) -> upkeep.CompactReport:
        """Delete what only searches of the past can see, and return a report."""
        with self.writing(wait):
            folder = self.bundles.current().folder
            room.to_compact(folder).require()
            used = [facts.digest for facts in (folder.bundle, folder.text, folder.fit) if facts is not None]
            report = upkeep.compact(self.store, self.links, self.pixels, used)
            self.bundles.drop_indexes()
            upkeep.drop_former_fits(folder)
            self._rebuild()
        return report

    def reindex(
        self,
        bundle: "str | Path | Bundle | None",
        text_bundle: "str | Path | Bundle | None",
        encoder: "Encodes | None",
        progress: "Progress[ReindexReport | TextReport] | None",
        drop_lost: bool,
        wait: float,
    ) -> ReindexReport:
        """Encode everything under other bundles and switch to them, or rebuild the indexes, and return a report."""
        with self.writing(wait):
            self._drain_with_key()
            report = switching.reindex(self.bundles, bundle, text_bundle, encoder, progress, drop_lost)
            self.bundles.current().indexes.keep_neighbours()
        return report

    def upgrade(
        self, progress: Progress[UpgradeReport] | None, wait: float, encode_again: bool = False
    ) -> UpgradeReport:
        """Upgrade the archive to the newest format, and return a report."""
        with self.writing(wait):
            folder = self.bundles.current().folder
            room.to_upgrade(folder, self.store.count()).require()
            report = UpgradeReport(former=folder.format)
            # First of all: an archive that has its format is not asked again.
            texts = switching.renew_text(self.bundles)
            report.text = None if texts is None else texts.name
            folder = self.bundles.current().folder

            def publish() -> None:
                self.bundles.use(replace(folder, format=FORMAT))

            upgrade.upgrade(folder, self.store, self.links, publish, report, progress)
            encoded = switching.encode_sentences(self.bundles)
            report.sentences = 0 if encoded is None else encoded.sentences
            if encode_again:
                self._encode_again(report, progress)
            folder = self.bundles.current().folder
            if folder.fit is None or fitting.due(self.store, folder):
                # Images too few or all alike, or a bundle that is gone: the bundle's own codes go on serving.
                with suppress(QueryError, BundleError):
                    report.fit = fitting.fit(self.bundles, "upgrade")
                    self.bundles.current().indexes.keep_neighbours()
        return report

    def _encode_again(self, report: UpgradeReport, progress: Progress[UpgradeReport] | None) -> None:
        def count(so_far: ReindexReport) -> None:
            report.encoded = so_far.encoded
            if progress is not None:
                progress(report)

        self._drain_with_key()
        again = switching.encode_again(self.bundles, count)
        report.encoded, report.lost, report.fit = again.encoded, again.lost, again.fit
        if again.text is not None and again.text.done:
            report.text = again.text.name
            report.sentences += again.text.sentences
        self.bundles.current().indexes.keep_neighbours()

    def finish_restore(self) -> None:
        """Delete copies of images that were committed or compacted away during a backup, and make the indexes."""
        with self.writing():
            upkeep.sweep(self.store, self.links, self.pixels)
            self._rebuild()

    def _rebuild(self) -> None:
        indexes = self.bundles.current().indexes
        indexes.rebuild()
        indexes.keep_neighbours()

    def _recover(self) -> None:
        upkeep.sweep(self.store, self.links, self.pixels)
        self.spool.sweep()

    def _give_way(self, bundle: str) -> None:
        """Let short writes go first.

        Args:
            bundle: Digest of the bundle that this write encodes under.
        """
        died = self.lock.give_way()
        if died:
            self._recover()
        folder = self.bundles.current().folder
        if died is not None and folder.bundle.digest != bundle:
            raise ArchiveLocked(
                f"{folder.path} was switched to another bundle meanwhile; what was committed is safe: run it again"
            )

    def _intake(self, settings: IntakeSettings, progress: Progress[AddReport] | None) -> Intake:
        return Intake(self.bundles.current(), self.links, self.pixels, settings, progress)

    def _drain_with_key(self) -> None:
        """Commit what was received, unless the archive was restored without its key."""
        if (self.bundles.current().folder.private / KEY_FILE).exists():
            self._drain(on_conflict="keep")  # here nobody would read of a replaced image

    def _drain(
        self,
        frames: "Frames" = "all",
        progress: Progress[AddReport] | None = None,
        decoding: "Decoding" = "process",
        on_conflict: OnConflict | None = None,
        limit: int | None = None,
    ) -> AddReport:
        damaged = self.spool.set_damaged_aside()
        entries = arrivals(self.spool)[:limit]
        report = AddReport(generation=self.store.generation())
        keep = self.bundles.current().folder.keep_identifiers
        settings = IntakeSettings("copy", frames, keep, decoding=decoding, on_conflict=on_conflict)

        def start(report: AddReport) -> Intake:
            intake = self._intake(settings, progress)
            report.seconds = intake.report.seconds | report.seconds
            intake.report = report
            return intake

        if entries:
            take_in(self.spool, entries, start, report, frames)
        Withdrawn(self.store).clear(self.spool)
        report.skipped += damaged
        return report

    def _refresh(self, report: AddReport, fit: Fitting, progress: Progress[AddReport] | None) -> None:
        began = time.perf_counter()
        reason = fitting.due(self.store, self.bundles.current().folder) if fit == "auto" else None
        if reason is not None:

            def told(so_far: FitReport) -> None:
                report.fit = so_far
                if progress:
                    progress(report)

            try:
                if reason == "erasure":  # one that was interrupted before it fitted again
                    report.fit = fitting.after_erasure(self.bundles)
                else:
                    report.fit = fitting.fit(self.bundles, reason, progress=told)
            except MedlikeError as error:
                # All images are safe, and the codes in use go on.
                report.fit = None
                report.remarks.append((str(self.bundles.current().folder.path), f"codes were not fitted: {error}"))
        self.bundles.current().indexes.refresh()
        report.seconds["index"] = time.perf_counter() - began
        report.seconds["total"] = report.seconds.get("total", 0.0) + report.seconds["index"]

    def _finish_erasure(self) -> FitReport | None:
        removal.finish_erasure(self.store, self.links, self.pixels, self.spool, self.bundles.drop_indexes)
        report = fitting.after_erasure(self.bundles)
        self._rebuild()
        return report
