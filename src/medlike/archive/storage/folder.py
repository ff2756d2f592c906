"""The folder of an archive: where each part is, and archive.json, which says what it is.

archive.json     format, id, bundle, text bundle, fit, keep_identifiers, shared
store.sqlite     the truth
pixels/          content-addressed decoded pixels, and previews
private/         the id key, the link table, and spool/: received and acknowledged, not yet committed; service/: what
                 a service keeps, such as jobs, stored receipts, marks and its access log, which no backup holds
index/           derived arrays, rebuilt from the store at any time
writer.lock      names the writer while there is one

Format 1 is that of an archive without a text bundle, which an earlier medlike can write to as well. Format 2 has one.
Format 3 has the archive's id and digests of all rows, and its spool lies in private/; in earlier ones it lies beside.
"""

import hashlib
import json
import os
import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from medlike import files as durable
from medlike import strict_json
from medlike.errors import ArchiveError, BundleError
from medlike.types import JsonObject

if TYPE_CHECKING:
    from medlike.bundle import Bundle

_DIGEST = re.compile(r"[0-9a-f]{64}")  # it names a folder in index/
_WIDTHS = {
    "bits": (8, 1024), "content_dim": (1, 65_536), "local_bits": (8, 1024), "width": (1, 65_536),
    "directions": (1, 1024),
}  # fmt: skip
FORMAT = 3
SENTENCES = 1  # of how the fields of images are written as sentences
FILE = "archive.json"
PARTS = ("store", "pixels", "previews", "index", "private", "spool")
LARGEST = 1 << 20  # bytes of archive.json
# What must lie in the folder itself, never behind a link -> whether it is a folder.
CONTENT = {
    FILE: False, "store.sqlite": False, "store.sqlite-wal": False, "store.sqlite-shm": False, "writer.lock": False,
    "pixels": True, "pixels/previews": True, "index": True, "spool": True, "spool/refused": True, "private": True,
    "private/key": False, "private/links.sqlite": False, "private/links.sqlite-wal": False,
    "private/links.sqlite-shm": False, "private/spool": True, "private/spool/refused": True, "private/service": True,
}  # fmt: skip


@dataclass(frozen=True)
class BundleFacts:
    """The bundle that an archive's encodings come from. path: its folder, None for a shipped one.

    digest: what its encodings are stored under. encoder: digest of graph and weights; a bundle of the same one
    gives the same codes, whatever its outlier calibration, and may take the place of this one.
    """

    name: str
    digest: str
    bits: int
    content_dim: int
    local_bits: int | None = None
    path: str | None = None
    encoder: str | None = None

    @classmethod
    def of(cls, bundle: "Bundle") -> "BundleFacts":
        """From a loaded bundle."""
        widths = (bundle.bits, bundle.content_dim, bundle.local_bits)
        return cls(bundle.name, bundle.digest, *widths, _place(bundle), bundle.encoder_digest)

    def load(self) -> "Bundle":
        """The bundle itself, or one fitted to a site since. Raises BundleError where it is missing or another."""
        from medlike.bundle import Bundle

        if self.path and not Path(self.path).is_dir():
            raise BundleError(
                f"bundle {self.name} is no longer at {self.path}: put it back, or say where it is "
                "with `medlike index SOURCE --bundle FOLDER`"
            )
        bundle = Bundle.load(self.path or self.name)
        if not encode_alike(self, BundleFacts.of(bundle)):
            raise BundleError(
                f"bundle {self.name} at {bundle.path} has digest {bundle.digest[:16]}, the archive was made "
                f"with {self.digest[:16]}: put that one back, or run "
                f"`medlike reindex --bundle {self.path or self.name}`"
            )
        return bundle


@dataclass(frozen=True)
class TextBundleFacts:
    """The text bundle of an archive's cross-modal codes. path: its folder, None for a shipped one.

    bits: of a code; width: of an embedding. images: encoder digest of the image bundle that it was trained with.
    digest and encoder as in BundleFacts.
    """

    name: str
    digest: str
    bits: int
    width: int
    images: str
    path: str | None = None
    encoder: str | None = None

    @classmethod
    def of(cls, bundle: "Bundle") -> "TextBundleFacts":
        """From a loaded text bundle."""
        text = bundle.spec["text"]
        width, images = int(text["embedding_dim"]), str(text["image_encoder_digest"])
        return cls(bundle.name, bundle.digest, bundle.bits, width, images, _place(bundle), bundle.encoder_digest)

    def load(self) -> "Bundle":
        """The bundle itself, or one that gives the same codes. Raises BundleError where it is missing or another."""
        from medlike.bundle import Bundle

        bundle = Bundle.load(self.path or self.name, kind="text")
        if not encode_alike(self, TextBundleFacts.of(bundle)):
            raise BundleError(
                f"text bundle {self.name} at {bundle.path} has digest {bundle.digest[:16]}, the archive was made with "
                f"{self.digest[:16]}: put that one back, or run "
                f"`medlike reindex --text-bundle {self.path or self.name}`"
            )
        return bundle

    def fits(self, images: "Bundle") -> bool:
        """Whether it takes the content vectors of an image bundle."""
        from medlike.inference import same_content

        return same_content(images, self.images)


@dataclass(frozen=True)
class FitFacts:
    """The fit in use, which the store keeps. bits: of a code; directions: entries of a fitted vector."""

    digest: str
    bits: int
    directions: int


@dataclass(frozen=True)
class Folder:
    """An archive's folder and the content of its archive.json."""

    path: Path
    bundle: BundleFacts
    key: str  # what the id key answers to a question, so that another key is noticed
    keep_identifiers: bool = False
    text: TextBundleFacts | None = None
    #: Whether other users of the machine may read it; None in an archive of an earlier medlike: as its modes say.
    shared: bool | None = None
    format: int = FORMAT
    #: The fit whose codes the images are searched by, None for the bundle's own codes.
    fit: FitFacts | None = None
    #: How the fields of the images are written as sentences; 0 where these have no codes under the text bundle.
    sentences: int = 0

    @property
    def archive_id(self) -> str:
        """Return 32 hex digits that name the archive, derived from what archive.json holds of the id key.

        Every format has it. A restored backup keeps it; it gives away neither the key nor an image.
        """
        return hashlib.sha256(f"archive:{self.key}".encode()).hexdigest()[:32]

    @property
    def store(self) -> Path:
        """Return the path of the database."""
        return self.path / "store.sqlite"

    @property
    def pixels(self) -> Path:
        """Return the folder of stored pixels."""
        return self.path / "pixels"

    @property
    def previews(self) -> Path:
        """Return the folder of previews."""
        return self.path / "pixels" / "previews"

    @property
    def private(self) -> Path:
        """Return the private folder."""
        return self.path / "private"

    @property
    def index(self) -> Path:
        """Return the folder of derived arrays."""
        return self.path / "index"

    @property
    def spool(self) -> Path:
        """Return the folder of received files."""
        place = self.path / spool_of(self.format)
        inside = self.path / spool_of(FORMAT)
        # An upgrade that was interrupted has moved it already. Where private/ is closed to a reader, it is not there.
        return inside if not os.path.isdir(place) and os.path.isdir(inside) else place  # noqa: PTH112

    @classmethod
    def open(cls, path: Path) -> "Folder":
        """Read archive.json. Raises ArchiveError where it is missing, damaged, or of a newer format."""
        file = path / FILE
        for name, is_folder in CONTENT.items():
            durable.require_plain(path / name, is_folder)
        try:
            facts = strict_json.loads(durable.read(file, LARGEST))
            version = int(facts["format"])
        except FileNotFoundError:
            raise ArchiveError(
                f"{path} is not an archive ({FILE} is missing): "
                f"make one with `medlike index SOURCE --archive {path}`"
            ) from None
        except OSError as error:
            raise ArchiveError(f"{file} cannot be read ({error.strerror}): check permissions") from error
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise ArchiveError(f"{file} is damaged ({error}): restore the archive from a backup") from error
        if version > FORMAT:
            raise ArchiveError(
                f"{path} has archive format {version}; this medlike reads up to {FORMAT}: "
                "install a newer medlike"
            )
        try:
            bundle, keep = BundleFacts(**facts["bundle"]), bool(facts["keep_identifiers"])
            text = None if facts.get("text_bundle") is None else TextBundleFacts(**facts["text_bundle"])
            _require_sane(bundle)
            if text is not None:
                _require_sane(text)
            fit = None if facts.get("fit") is None else FitFacts(**facts["fit"])
            if fit is not None:
                _require_sane(fit, "fit")
            shared = None if facts.get("shared") is None else bool(facts["shared"])
            sentences = 0 if text is None else int(facts.get("sentences", 0))
            folder = cls(path, bundle, str(facts["key"]), keep, text, shared, version, fit, sentences)
            if version >= 3 and facts["id"] != folder.archive_id:
                raise ValueError(f"id is {str(facts['id'])[:40]!r}, not {folder.archive_id!r}")
            return folder
        except (KeyError, TypeError, ValueError) as error:
            raise ArchiveError(f"{file} is damaged ({error}): restore the archive from a backup") from error

    def write(self) -> None:
        """Write archive.json atomically."""
        facts: JsonObject = {
            "format": self.format,
            "bundle": asdict(self.bundle),
            "key": self.key,
            "keep_identifiers": self.keep_identifiers,
        }
        if self.format >= 3:
            facts["id"] = self.archive_id
        if self.shared is not None:
            facts["shared"] = self.shared
        if self.fit is not None:
            facts["fit"] = asdict(self.fit)
        if self.text is not None:
            facts["text_bundle"] = asdict(self.text)
            if self.sentences:
                facts["sentences"] = self.sentences
        durable.write(self.path / FILE, (json.dumps(facts, indent=1, ensure_ascii=False) + "\n").encode())

    def under(self, bundle: BundleFacts) -> "Folder":
        """The same folder under another bundle, not yet written."""
        return replace(self, bundle=bundle)

    def with_text(self, text: TextBundleFacts | None, sentences: int = 0) -> "Folder":
        """The same folder with another text bundle or none, not yet written.

        Args:
            text: The text bundle.
            sentences: How the fields' sentences that have codes under it are written; 0 if none has.
        """
        version = 2 if self.format == 1 and text is not None else self.format
        return replace(self, text=text, sentences=sentences, format=version)

    def with_fit(self, fit: FitFacts | None) -> "Folder":
        """The same folder with another fit or none, not yet written."""
        return replace(self, fit=fit)

    def with_bundle_at(self, place: BundleFacts) -> "Folder":
        """The same folder and encodings with the bundle that lies elsewhere, not yet written.

        Raises ArchiveError where that one gives other codes.
        """
        if not encode_alike(self.bundle, place):
            raise ArchiveError(
                f"{self.path} was made with bundle {self.bundle.name} ({self.bundle.digest[:16]}), not with "
                f"{place.name} ({place.digest[:16]}), which gives other codes: "
                f"run `medlike reindex --archive {self.path} --bundle {place.path or place.name}`"
            )
        return self.under(replace(self.bundle, path=place.path))

    def bytes(self) -> dict[str, int]:
        """Bytes on disk by part."""
        previews, spool = durable.size(self.previews), durable.size(self.spool)
        inside = spool if self.spool.is_relative_to(self.private) else 0
        database = sum(file.stat().st_size for file in self.path.glob("store.sqlite*"))
        return {
            "store": database,
            "pixels": durable.size(self.pixels) - previews,
            "previews": previews,
            "index": durable.size(self.index),
            "private": max(durable.size(self.private) - inside, 0),
            "spool": spool,
        }


def spool_of(version: int) -> str:
    """Return where the folder of received files lies in an archive of a format."""
    return "private/spool" if version >= 3 else "spool"


def _place(bundle: "Bundle") -> str | None:
    """Return the folder of a bundle, None for a shipped one."""
    # A shipped bundle that was fitted to a site keeps its name, but lies elsewhere.
    return None if bundle.is_shipped else str(bundle.path.absolute())


def _require_sane(facts: BundleFacts | TextBundleFacts | FitFacts, part: str = "bundle") -> None:
    """Raise ValueError where facts of archive.json have another type, or widths that no bundle has."""
    for name, value in asdict(facts).items():
        if name in _WIDTHS:
            least, most = _WIDTHS[name]
            if value is None and name == "local_bits":
                continue
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
                raise ValueError(f"{part}.{name} is {str(value)[:40]}, not a number from {least} to {most}")
        elif value is None and name in ("path", "encoder"):
            continue
        elif not isinstance(value, str) or "\0" in value or len(value) > 4096:
            raise ValueError(f"{part}.{name} is no text of at most 4096 characters")
    if not _DIGEST.fullmatch(facts.digest):
        raise ValueError(f"{part}.digest is {facts.digest[:80]!r}, no SHA-256")


def encode_alike(one: BundleFacts | TextBundleFacts, other: BundleFacts | TextBundleFacts) -> bool:
    """Whether two bundles give the same codes."""
    if one.digest == other.digest:
        return True
    encoders = {_encoder(one), _encoder(other)}
    return len(encoders) == 1 and None not in encoders


def _encoder(facts: BundleFacts | TextBundleFacts) -> str | None:
    """Return the digest of a bundle's graph and weights, None where an early archive does not tell."""
    from medlike.bundle import former

    return facts.encoder or former().get(facts.digest, {}).get("encoder_digest")


def loaded_text_bundle(bundle: "str | Path | Bundle") -> "Bundle":
    """A text bundle given by name, by folder or as it is."""
    from medlike.bundle import Bundle

    return bundle if isinstance(bundle, Bundle) else Bundle.load(bundle, kind="text")


def default_text_bundle(images: "Bundle") -> "Bundle | None":
    """The text part of an image bundle, else the shipped text bundle where it takes that one's content.

    None where neither does, or the text part of medlike is not installed.
    """
    from medlike.bundle import Bundle, default_text, shipped
    from medlike.inference.sentence_weights import text_installed

    place = images.text_part or (default_text() if default_text() in shipped("text") else None)
    if place is None or not text_installed():
        return None
    bundle = Bundle.load(place, kind="text")
    return bundle if TextBundleFacts.of(bundle).fits(images) else None


def loaded_bundle(bundle: "str | Path | Bundle | None") -> "Bundle":
    """A bundle given by name, by folder or as it is; None: the default one."""
    from medlike.bundle import Bundle, default

    return bundle if isinstance(bundle, Bundle) else Bundle.load(default() if bundle is None else bundle)
