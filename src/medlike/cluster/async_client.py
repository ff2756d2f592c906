"""AsyncClient: the verbs of Client for programs with an event loop."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar, Unpack

from medlike.cluster.address import TIMEOUT, Address, token_from_environment
from medlike.cluster.exchange import Call, Flow, Pause, Reply
from medlike.cluster.failures import raise_for
from medlike.errors import InputError, MedlikeError, MissingExtra
from medlike.types import Json, JsonObject, Picture, Progress

if TYPE_CHECKING:
    import httpx

    from medlike.archive.intake.reindex import ReindexReport
    from medlike.archive.intake.report import AddReport
    from medlike.archive.search.facets import Facets
    from medlike.archive.search.listing import Listing
    from medlike.archive.search.query import Query
    from medlike.archive.search.result import Result
    from medlike.archive.search.settings import SearchKeywords, TextKeywords
    from medlike.archive.search.text_result import TextResult
    from medlike.archive.storage.backup import BackupReport
    from medlike.archive.storage.fits import FitReport
    from medlike.archive.storage.removal import RemovalReport
    from medlike.archive.storage.upkeep import CompactReport
    from medlike.archive.storage.verify import Problem
    from medlike.cluster.jobs import RemoteJob

T = TypeVar("T")


class AsyncClient:
    """Search an archive that a medlike service holds, and add to it, without blocking the event loop.

    It has the verbs and results of `Client`, to be awaited. Results have no pictures: await `with_pictures` of one.
    Close it with `close` or as an asynchronous context manager.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        archive: str | None = None,
        *,
        sources: bool = False,
        timeout: float = TIMEOUT,
        certificates: str | Path | None = None,
        transport: "httpx.AsyncBaseTransport | None" = None,
    ) -> None:
        """Connect with the first request.

        Args:
            url: Address of the service, such as http://127.0.0.1:8000 or what `medlike serve` printed, with its token;
                ?archive=NAME at its end names an archive.
            token: The service's token; that of the address or of the environment variable MEDLIKE_TOKEN unless given.
            archive: Name of one of the service's archives; the first unless given.
            sources: If true, hits and listed images have their `source`. The service records who reads it.
            timeout: Seconds for which the service may be silent.
            certificates: File with the certificate of who signed that of the service.
            transport: What sends the requests instead of the network, for tests.

        Raises:
            InputError: The address, the token or the certificates cannot be used.
            MissingExtra: httpx is not installed.
        """
        self._address, self._sources, self._timeout = Address.of(url, archive), sources, timeout
        try:
            from medlike.cluster import transport as network
        except ImportError:
            raise MissingExtra("httpx", "client") from None
        self._network = network
        given = token or self._address.token or token_from_environment()
        options = network.options(self._address, given, timeout, certificates)
        self._http = network.connected_async(options, transport)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"AsyncClient({str(self._address)!r})"

    @property
    def url(self) -> str:
        """Return the address of the service, with the name of the archive if one was given."""
        return str(self._address)

    async def search(self, query: "Query", k: int = 10, **settings: Unpack["SearchKeywords"]) -> "Result":
        """Return the k stored images most like the query, best first; `Archive.search` explains it.

        Args:
            query: A Query, or an image as `Query` takes it. Its file is sent to the service, and not stored there.
            k: How many hits to return.
            **settings: As for `Archive.search`.
        """
        from medlike.cluster import searching

        return await self._run(searching.search(query, {"k": k, **settings}, self._sources))

    async def search_many(
        self, queries: "Sequence[Query]", k: int = 10, **settings: Unpack["SearchKeywords"]
    ) -> "list[Result]":
        """Return one result for each query, in their order, all as of one generation.

        Args:
            queries: Queries, or images as `Query` takes them.
            k: How many hits to return for each.
            **settings: As for `Archive.search`.
        """
        from medlike.cluster import searching

        return await self._run(searching.search_many(queries, {"k": k, **settings}, self._sources))

    async def repeat(self, receipt: Mapping[str, Json]) -> "Result | TextResult":
        """Repeat the search of a receipt as of its generation, and return the same answer, less what was erased.

        Args:
            receipt: The `receipt` of a Result or TextResult.
        """
        from medlike.cluster import searching

        return await self._run(searching.repeat(receipt, self._sources))

    async def nearest_texts(self, query: "Query", k: int = 10, **settings: Unpack["TextKeywords"]) -> "TextResult":
        """Return the k stored texts nearest in meaning; `Archive.nearest_texts` explains it.

        Args:
            query: A Query of an image, a text or both, or an image as `Query` takes it.
            k: How many texts to return.
            **settings: As for `Archive.nearest_texts`.
        """
        from medlike.cluster import searching

        return await self._run(searching.nearest_texts(query, {"k": k, **settings}))

    async def browse(
        self, where: Mapping[str, Json] | None = None, limit: int = 100, offset: int = 0, *, prefix: str = ""
    ) -> "Listing":
        """Return a page of the stored images that match a filter, in the order they were added, without a query.

        Args:
            where: A filter, as for `search`; all images unless given.
            limit: How many images to return.
            offset: How many matching images to skip.
            prefix: Hex digits that the ids begin with.
        """
        from medlike.cluster import searching

        return await self._run(searching.browse(where, limit, offset, prefix, self._sources))

    async def facets(
        self, where: Mapping[str, Json] | None = None, generation: int | None = None, most: int = 100
    ) -> "Facets":
        """Return how many stored images have which value of each filter column: values, quartiles and histograms.

        Args:
            where: A filter, as for `search`: only images that match it are counted.
            generation: As of which generation; the newest unless given.
            most: How many values of a text column are listed.
        """
        from medlike.cluster import searching

        return await self._run(searching.facets(where, generation, most))

    async def picture(self, id: str) -> Picture | None:
        """Return a stored image for showing: uint8 [H, W], or [H, W, 3] in RGB; None if pixels and preview are gone.

        Args:
            id: Its public id.
        """
        from medlike.cluster import searching

        return await self._run(searching.picture(id))

    async def with_pictures(self, result: "Result", query: object = None) -> "Result":
        """Fetch the pictures of a result's hits and query, and return the result with them.

        Args:
            result: The result.
            query: The query, for its picture where it is no stored image.
        """
        from medlike.archive.search.result import ResultPictures
        from medlike.cluster.pictures import query_picture

        stated = result.receipt.get("query", {})
        ids = list(dict.fromkeys([*(hit.id for hit in result.hits), *filter(None, [stated.get("id")])]))
        fetched = await asyncio.gather(*(self._picture(id) for id in ids))
        pictures = dict(zip(ids, fetched, strict=True))
        shown = partial(query_picture, query, stated, pictures.get)
        return replace(result, pictures=ResultPictures(shown, pictures.get))

    async def _picture(self, id: str) -> Picture | None:
        with suppress(InputError):  # it was removed since
            return await self.picture(id)
        return None

    async def ids(self, prefix: str = "") -> list[str]:
        """Return the public ids of the stored images, in the order they were added.

        Args:
            prefix: Hex digits that the ids begin with; all ids unless given.
        """
        from medlike.cluster import searching

        return await self._run(searching.ids(prefix))

    async def info(self) -> JsonObject:
        """Return counts and states of the archive, as `Archive.info` does."""
        from medlike.cluster import searching

        return await self._run(searching.info())

    async def archives(self) -> list[JsonObject]:
        """Return the archives that the service holds: name, number of images and id of each."""
        from medlike.cluster import searching

        return await self._run(searching.archives())

    async def add(
        self,
        sources: Iterable[str | Path] | str | Path,
        progress: "Progress[AddReport] | None" = None,
        sent: Callable[[int], None] | None = None,
    ) -> "AddReport":
        """Upload images from folders, globs, files and CSV manifests of this machine, and return a report.

        The service stores their pixels, and all frames of a file. A file that it has acknowledged is never lost; the
        report counts it once it is indexed. An interrupted call can be repeated. `added` counts replaced images too.

        Args:
            sources: What to add: one source or several.
            progress: Called with the report so far.
            sent: Called with the number of bytes of each piece that was sent.

        Raises:
            NothingAdded: Files were refused, and no image of any other is stored.
        """
        from medlike.cluster import uploads

        return await self._run(uploads.add(sources, progress, sent, self._address.url))

    async def remove(self, ids: Iterable[str] | str, erase: bool = False) -> "RemovalReport":
        """Remove images by id, and return how many there were and which ids are unknown.

        Args:
            ids: One public id or several.
            erase: If true, leave no trace in the archive. Backups and original files stay.
        """
        from medlike.cluster import uploads

        return await self._run(uploads.remove([ids] if isinstance(ids, str) else list(ids), erase))

    async def fit(
        self, bits: int | None = None, progress: "Progress[FitReport] | None" = None, labels: str | None = None
    ) -> "FitReport":
        """Have codes fitted to the archive's own images, and return the report; `Archive.fit` explains it.

        Args:
            bits: Length of a code; that of the fit in use unless given, else 64.
            progress: Called with the report so far.
            labels: A field by whose values codes are to tell images apart, "none" for a fit without.
        """
        from medlike.cluster import jobs

        return await self._run(jobs.fit(bits, progress, labels))

    async def reindex(
        self,
        bundle: str | None = None,
        progress: "Progress[ReindexReport] | None" = None,
        drop_lost: bool = False,
        text_bundle: str | None = None,
    ) -> "ReindexReport":
        """Have every image encoded under another bundle, or the indexes rebuilt, and return the report.

        Args:
            bundle: Name of a shipped image bundle, or a folder of the service's machine.
            progress: Called with the report so far, which says of lost images only how many there are.
            drop_lost: If true, remove images whose pixels and preview are gone.
            text_bundle: Text bundle, given like `bundle`; "none" for search without one.
        """
        from medlike.cluster import jobs

        return await self._run(jobs.reindex(bundle, progress, drop_lost, text_bundle))

    async def compact(self) -> "CompactReport":
        """Have removed images deleted for good, and return the report; `Archive.compact` explains it."""
        from medlike.cluster import jobs

        return await self._run(jobs.compact())

    async def verify(self) -> "list[Problem]":
        """Have every part of the archive checked, and return the problems."""
        from medlike.cluster import jobs

        return await self._run(jobs.verify())

    async def backup(
        self, target: str | Path, links: bool = False, passphrase: str | None = None, with_id_key: bool = False
    ) -> "BackupReport":
        """Have the archive copied into a new folder of the service's machine, and return what was copied.

        Args:
            target: The new folder: an absolute path on the service's machine.
            links: If true, include the link table.
            passphrase: Encrypts the whole backup, which then includes the key of the ids.
            with_id_key: If true, include the key of the ids in a backup that is not encrypted.
        """
        from medlike.cluster import jobs

        return await self._run(jobs.backup(str(target), links, passphrase, with_id_key))

    async def job(self, kind: str, /, **arguments: Json) -> "RemoteJob":
        """Start work that the service does by itself, and return the job at once.

        Args:
            kind: "index", "reindex", "fit", "compact", "backup", "verify" or "upgrade".
            **arguments: Those of the verb of `Archive`. Paths are paths of the service's machine.
        """
        from medlike.cluster import jobs

        return await self._run(jobs.start(kind, arguments))

    async def jobs(self, limit: int = 100, offset: int = 0) -> "list[RemoteJob]":
        """Return the jobs of the archive, the newest first.

        Args:
            limit: How many to return.
            offset: How many to skip.
        """
        from medlike.cluster import jobs

        return await self._run(jobs.listed(limit, offset))

    async def wait(self, job: "RemoteJob | int", progress: "Progress[RemoteJob] | None" = None) -> "RemoteJob":
        """Wait for the end of a job, and return it; `RemoteJob.require_done` raises if it failed.

        Args:
            job: The job, or its number.
            progress: Called with the job as it is, once a second or more often.
        """
        from medlike.cluster import jobs

        return await self._run(jobs.wait(job if isinstance(job, int) else job.id, progress))

    async def cancel(self, job: "RemoteJob | int") -> "RemoteJob":
        """Cancel a job, and return it: one that runs ends after the group of images at hand.

        Args:
            job: The job, or its number.
        """
        from medlike.cluster import jobs

        return await self._run(jobs.cancel(job if isinstance(job, int) else job.id))

    async def mark(self, query: str, id: str, mark: Literal["like", "unlike"]) -> None:
        """Mark an image as like or unlike a query, for `Query(like=..., unlike=...)`; the service keeps it.

        Args:
            query: Id of the query: of an image, or of a stored receipt.
            id: Id of the image.
            mark: "like" or "unlike".
        """
        from medlike.cluster import notebook

        await self._run(notebook.mark(query, id, mark))

    async def unmark(self, query: str, id: str | None = None) -> None:
        """Delete the mark on an image, or all marks of a query.

        Args:
            query: Id of the query.
            id: Id of the image; all of them unless given.
        """
        from medlike.cluster import notebook

        await self._run(notebook.unmark(query, id))

    async def marks(self, query: str) -> dict[str, list[str]]:
        """Return the ids of the marked images of a query, under "like" and "unlike".

        Args:
            query: Id of the query.
        """
        from medlike.cluster import notebook

        return await self._run(notebook.marks(query))

    async def store(self, receipt: Mapping[str, Json]) -> str:
        """Have a receipt stored by the service, and return its id.

        One with the code of an image that was sent is kept for 30 days.

        Args:
            receipt: The `receipt` of a Result or TextResult.
        """
        from medlike.cluster import notebook

        return await self._run(notebook.store(receipt))

    async def stored(self, id: str) -> JsonObject:
        """Return a stored receipt, which `repeat` takes.

        Args:
            id: What `store` returned.
        """
        from medlike.cluster import notebook

        return await self._run(notebook.stored(id))

    async def forget(self, id: str) -> None:
        """Delete a stored receipt, and the marks on it.

        Args:
            id: What `store` returned.
        """
        from medlike.cluster import notebook

        await self._run(notebook.forget(id))

    async def _run(self, flow: Flow[T]) -> T:
        """Run a flow to its end, and return its result."""
        try:
            step = next(flow)
            while True:
                try:
                    reply = await self._step(step)
                except (MedlikeError, OSError) as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(reply)
        except StopIteration as ended:
            result: T = ended.value
            return result

    async def _step(self, step: Call | Pause) -> Reply | None:
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
            return None
        attempt = 0
        while True:
            reply, error = None, None
            try:
                reply = await self._send(step)
            except self._network.Broken as broken:
                error = broken
            seconds = self._network.pause(step, attempt, reply, error)
            if seconds is None:
                break
            attempt += 1
            await asyncio.sleep(seconds)
        if reply is None:
            assert error is not None
            raise self._network.unreachable(self._address.url, step, error) from error
        raise_for(reply, step.expected, self._address.url)
        return reply

    async def _send(self, call: Call) -> Reply:
        with self._network.arguments(call, self._timeout) as arguments:
            return self._network.reply_of(await self._http.request(call.method, call.path, **arguments))
