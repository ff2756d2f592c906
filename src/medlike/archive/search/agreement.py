"""How one stored image agrees with a query, without a search: the hit that it would be, of any rank."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medlike.archive.index.candidates import Candidates, Field, candidates
from medlike.archive.search.encoded_query import EncodedQuery
from medlike.archive.search.encoding import encode_queries, preload, read_images
from medlike.archive.search.hits import hits
from medlike.archive.search.query import Query
from medlike.archive.search.regions import RegionRanking
from medlike.archive.search.result import Hit
from medlike.archive.search.search import region_template
from medlike.archive.search.settings import SearchSettings
from medlike.codes import hamming
from medlike.codes.templates import ORIENTATIONS
from medlike.errors import QueryError, UnknownImage

if TYPE_CHECKING:
    from medlike.archive.session import Session

_ONE = "agreement is of one image with another: give the query an image or the id of a stored one"


def agreement(session: "Session", query: Query, id: str, **settings: object) -> Hit:
    """Return a stored image as a hit of a query; `Archive.agreement` explains the arguments."""
    chosen = SearchSettings.of(**settings)
    if query.images or (query.image is None and query.id is None and query.encoded is None):
        raise QueryError(_ONE)
    if not session.folder.bundle.local_bits:
        raise QueryError(
            f"bundle {session.folder.bundle.name} has no local codes, so no agreement of cells can be shown: "
            "run `medlike reindex --bundle` with one that has"
        )
    images = session.images(chosen.codes)
    view = images.index.view(chosen.generation)
    row = session.store.find(id, view.generation)
    if row is None:
        raise UnknownImage(id, session.folder.path)
    preload(session, [query])
    turned = chosen.orientations == ORIENTATIONS and chosen.region_turns == "encoded"
    encoded = encode_queries(session, [query], read_images(session, [query]), view, False, turned)[0].under(images.fit)
    if encoded.members or encoded.in_words_only:
        raise QueryError(_ONE)
    fields = [Field.of(part) for part in view.parts]
    positions = [field.allowed(part.positions(row.row)) for field, part in zip(fields, view.parts, strict=True)]
    template = region_template(session, images, view, encoded, chosen)
    if template is None:
        ranked = _whole(fields, positions, encoded)
    else:
        ranking = RegionRanking(fields, encoded, template, chosen.rank, chosen.region_weight)
        ranked = ranking.shown(ranking.members(positions))
    shown = hits(session, view, encoded, template, ranked, None)
    if not shown:
        raise QueryError(f"the region has no place in image {id} without padding: draw a smaller one")
    return shown[0]


def _whole(fields: Sequence[Field], positions: Sequence[NDArray[np.int64]], encoded: EncodedQuery) -> Candidates:
    parts = []
    for number, (field, chosen) in enumerate(zip(fields, positions, strict=True)):
        codes = np.ascontiguousarray(field.codes[chosen])
        near = hamming.distances(codes, encoded.code, "numpy")
        parts.append(candidates(field, number, near, chosen, encoded.content))
    return Candidates.joined(parts)
