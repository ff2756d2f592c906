"""The folder of an archive: where each part is, and archive.json, which says what it is.

archive.json     format, bundle, pixels, keep_identifiers
store.sqlite     the truth
pixels/          content-addressed decoded pixels, and previews
private/         the id key and the link table
index/           derived arrays, rebuilt from the store at any time
spool/           received and acknowledged, not yet committed
writer.lock      names the writer while there is one
"""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from medlike.archive import durable
from medlike.errors import ArchiveError, BundleError

if TYPE_CHECKING:
    from medlike.bundle import Bundle

FORMAT = 1
FILE = "archive.json"
PARTS = ("store", "pixels", "previews", "index", "private", "spool")


@dataclass(frozen=True)
class BundleFacts:
    """The bundle that an archive's encodings come from. path: its folder, None for a shipped one."""

    name: str
    digest: str
    bits: int
    content_dim: int
    local_bits: int | None = None
    path: str | None = None

    @classmethod
    def of(cls, bundle: "Bundle") -> "BundleFacts":
        """From a loaded bundle."""
        from medlike.bundle import shipped

        path = None if bundle.name in shipped() else str(bundle.path.absolute())
        return cls(bundle.name, bundle.digest, bundle.bits, bundle.content_dim, bundle.local_bits, path)

    def load(self) -> "Bundle":
        """The bundle itself. Raises BundleError where it is missing, or is not the one it was."""
        from medlike.bundle import Bundle

        found = Bundle.load(self.path or self.name)
        if found.digest != self.digest:
            raise BundleError(
                f"bundle {self.name} at {found.path} has digest {found.digest[:16]}, the archive was made "
                f"with {self.digest[:16]}: put that one back, or run "
                f"`medlike reindex --bundle {self.path or self.name}`"
            )
        return found


@dataclass(frozen=True)
class Folder:
    """An archive's folder and the content of its archive.json."""

    path: Path
    bundle: BundleFacts
    key: str  # what the id key answers to a question, so that another key is noticed
    keep_identifiers: bool = False

    @property
    def store(self) -> Path:
        return self.path / "store.sqlite"

    @property
    def pixels(self) -> Path:
        return self.path / "pixels"

    @property
    def previews(self) -> Path:
        return self.path / "pixels" / "previews"

    @property
    def private(self) -> Path:
        return self.path / "private"

    @property
    def index(self) -> Path:
        return self.path / "index"

    @property
    def spool(self) -> Path:
        return self.path / "spool"

    @classmethod
    def open(cls, path: Path) -> "Folder":
        """Read archive.json. Raises ArchiveError where it is missing, damaged, or of a newer format."""
        file = path / FILE
        try:
            facts = json.loads(file.read_bytes())
            format = int(facts["format"])
        except FileNotFoundError:
            raise ArchiveError(
                f"{path} is not an archive ({FILE} is missing): "
                f"make one with `medlike index SOURCE --archive {path}`"
            ) from None
        except OSError as error:
            raise ArchiveError(f"{file} cannot be read ({error.strerror}): check permissions") from error
        except (ValueError, KeyError, TypeError) as error:
            raise ArchiveError(f"{file} is damaged ({error}): restore the archive from a backup") from error
        if format > FORMAT:
            raise ArchiveError(
                f"{path} has archive format {format}; this medlike reads up to {FORMAT}: "
                "install a newer medlike"
            )
        try:
            bundle, keep = BundleFacts(**facts["bundle"]), bool(facts["keep_identifiers"])
            return cls(path, bundle, str(facts["key"]), keep)
        except (KeyError, TypeError) as error:
            raise ArchiveError(f"{file} is damaged ({error}): restore the archive from a backup") from error

    def write(self) -> None:
        """Write archive.json atomically."""
        facts = {
            "format": FORMAT,
            "bundle": asdict(self.bundle),
            "key": self.key,
            "keep_identifiers": self.keep_identifiers,
        }
        durable.write(self.path / FILE, (json.dumps(facts, indent=1, ensure_ascii=False) + "\n").encode())

    def under(self, bundle: BundleFacts) -> "Folder":
        """The same folder under another bundle, not yet written."""
        return replace(self, bundle=bundle)

    def bytes(self) -> dict[str, int]:
        """Bytes on disk by part."""
        previews = durable.size(self.previews)
        database = sum(file.stat().st_size for file in self.path.glob("store.sqlite*"))
        return {
            "store": database,
            "pixels": durable.size(self.pixels) - previews,
            "previews": previews,
            "index": durable.size(self.index),
            "private": durable.size(self.private),
            "spool": durable.size(self.spool),
        }


def loaded_bundle(bundle: "str | Path | Bundle | None") -> "Bundle":
    """A bundle given by name, by folder or as it is; None: the default one."""
    from medlike.bundle import Bundle, default

    return bundle if isinstance(bundle, Bundle) else Bundle.load(default() if bundle is None else bundle)
