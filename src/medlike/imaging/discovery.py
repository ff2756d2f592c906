"""Turn folders, globs, files and manifests into sources to read, lazily and in order."""

import dataclasses
import glob
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from medlike.errors import ImageError
from medlike.imaging.decoding import Decoding, read
from medlike.imaging.frames import Frames, frame_choice
from medlike.imaging.image import Image
from medlike.imaging.manifest import read_manifest
from medlike.imaging.reading import first_bytes, other_kind, sniff
from medlike.imaging.silence import reason
from medlike.imaging.source import Source

#: In a folder, files so named are images by intent: if they turn out not to be, that is reported.
_IMAGE_SUFFIXES = """
.dcm .dicom .dic .ima .png .jpg .jpeg .jpe .tif .tiff .bmp .dib .webp .gif .pgm .ppm .pnm .jp2 .j2k
"""

#: In a folder, files so named are passed over without a word.
_OTHER_SUFFIXES = """
.txt .csv .tsv .json .jsonl .md .rst .html .htm .xml .yml .yaml .toml .ini .cfg .log .py .ipynb .sh .js .css
.pdf .doc .docx .xls .xlsx .ppt .pptx .rtf .zip .gz .bz2 .xz .tar .tgz .7z .rar .db .sqlite .npy .npz .pkl .pt
.pth .onnx .safetensors .h5 .mp4 .avi .mov .mp3 .wav .exe .dll .so .bat .lnk .url .icc .svg .dump .sha256 .md5
"""

_IMAGES, _NOT_IMAGES = frozenset(_IMAGE_SUFFIXES.split()), frozenset(_OTHER_SUFFIXES.split())
_OTHER_NAMES = frozenset({"dicomdir", "thumbs.db", "desktop.ini"})

#: A folder with both is an archive, or a backup of one: its previews are no images of their own.
_ARCHIVE = ("archive.json", "store.sqlite")

Tell = Callable[[str], object]


def discover(
    sources: Iterable[str | Path],
    frames: Frames = "middle",
    passed_over: Tell | None = None,
    segmentations: bool = False,
) -> Iterator[Source]:
    """Yield the files that the given folders (recursive), globs, files and CSV manifests name, in the order given.

    Lazy: one folder at a time is listed, one row at a time is read. Entries of a folder are sorted by name. Links are
    followed; each folder is entered once. In folders, hidden files, DICOMDIR, and files that are no images by name or
    content are skipped; a file that you name yourself, or that a manifest names, never is. Archives and their backups
    are skipped as well. A file that cannot be used comes as a Source with a `problem`.

    Args:
        sources: Folders, globs, files and manifests.
        frames: As for `read`.
        passed_over: Called with the folder of each archive or backup.
        segmentations: Stored in each Source.

    Raises:
        ImageError: `frames` is wrong; raised at once.
    """
    frame_choice(frames)
    named = map(_nameable, _discover(sources, frames, passed_over or (lambda folder: None)))
    return (dataclasses.replace(source, segmentations=True) for source in named) if segmentations else named


def load(source: Source, frames: Frames | None = None, decoding: Decoding = "inline") -> Iterator[Image]:
    """Yield the images of a source; the facts of a manifest override those of the file. Raises ImageError.

    frames: as for `read`; None to use those of the source. decoding: "process" decodes in a worker process, "inline"
    in this one. A manifest's boxes hold for every frame.
    """
    if source.problem is not None:
        raise ImageError(source.problem)
    frames = source.frames if frames is None else frames
    for image in read(source.path, frames, source.segmentations, decoding):
        yield dataclasses.replace(
            image,
            path=source.path,
            metadata={**image.metadata, **source.metadata},
            texts={**image.texts, **source.texts},
            identifiers={**image.identifiers, **source.identifiers},
            boxes=source.boxes if source.boxes is not None else image.boxes,
        )


def _discover(sources: Iterable[str | Path], frames: Frames, tell: Tell) -> Iterator[Source]:
    for entry in [sources] if isinstance(sources, str | Path) else sources:
        name = os.fspath(entry)
        if "\0" in name or not name:
            yield Source(name, problem="the path is empty or has a null character")
        elif not os.path.lexists(name) and glob.has_magic(name):
            matches = sorted(glob.glob(name, recursive=True))  # noqa: PTH207 (absolute patterns)
            if not matches:
                yield Source(name, problem="no file matches this pattern")
            archives: dict[str, None] = {}
            for match in matches:
                archive = _archive_on_the_way(match, name)
                if archive is not None:
                    archives[str(archive)] = None
                elif not (Path(match).is_dir() and "**" in name):
                    yield from _named(match, frames, tell)
            for folder in archives:
                tell(folder)
        else:
            yield from _named(name, frames, tell)


def _archive_on_the_way(match: str, pattern: str) -> Path | None:
    """Return the archive that the wildcards of a pattern, not a name written out in it, have led to or into."""
    written = next(at for at, part in enumerate(Path(pattern).parts) if glob.has_magic(part))
    parts = Path(match).parts
    folders = (Path(*parts[:length]) for length in range(written + 1, len(parts) + 1))
    return next((folder for folder in folders if _is_archive(folder)), None)


def _is_archive(folder: Path) -> bool:
    return all(os.path.isfile(folder / name) for name in _ARCHIVE)  # noqa: PTH113 (no error where it cannot be looked at)


def _nameable(source: Source) -> Source:
    """Refuse a path whose bytes are not valid text, and show it escaped: it cannot be stored or shown."""
    try:
        source.path.encode()
    except UnicodeEncodeError:
        shown = source.path.encode(errors="backslashreplace").decode()
        return Source(shown, problem="its name is not valid UTF-8: rename it")
    return source


def _named(name: str, frames: Frames, tell: Tell) -> Iterator[Source]:
    path = Path(name)
    try:
        if path.is_dir() and _is_archive(path):
            yield Source(name, problem="it is an archive of medlike: give the folder that its images came from")
        elif path.is_dir():
            yield from _folder(path, frames, tell)
        elif path.suffix.lower() == ".csv":
            yield from _manifest(path, frames)
        else:
            yield Source(name, frames=frames)
    except OSError as error:
        yield Source(name, problem=_why(error))


def _manifest(path: Path, frames: Frames) -> Iterator[Source]:
    try:
        for source in read_manifest(path):
            yield dataclasses.replace(source, frames=frames)
    except ImageError as error:
        yield Source(str(path), problem=str(error))


def _folder(root: Path, frames: Frames, tell: Tell) -> Iterator[Source]:
    """Walk a folder depth first, without recursion: a stack of listings, so that only memory bounds the depth."""
    entered = {_identity(root)}
    inside = root.resolve()
    stack = [iter(_listing(root))]
    while stack:
        entry = next(stack[-1], None)
        if entry is None:
            stack.pop()
        elif isinstance(entry, Source):
            yield entry
        elif os.path.isdir(entry):  # noqa: PTH112 (no error where it cannot be looked at)
            try:
                # A link back into the tree would give its files twice.
                if entry.is_symlink() and entry.resolve().is_relative_to(inside):
                    continue
                identity = _identity(entry)
            except OSError as error:
                yield Source(str(entry), problem=_why(error))
                continue
            if identity not in entered:
                entered.add(identity)
                if _is_archive(entry):
                    tell(str(entry))
                    continue
                stack.append(iter(_listing(entry)))
        elif _may_be_image(entry):
            yield Source(str(entry), frames=frames)


def _listing(folder: Path) -> list[Path | Source]:
    try:
        return [*sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))]
    except OSError as error:
        return [Source(str(folder), problem=_why(error))]


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _may_be_image(path: Path) -> bool:
    """Return whether to read a file of a folder: by its name, else by its first bytes; if in doubt, True."""
    if path.name.lower() in _OTHER_NAMES:
        return False
    suffix = path.suffix.lower()
    if suffix in _IMAGES:
        return True
    if suffix in _NOT_IMAGES:
        return False
    try:
        start = first_bytes(path)
    except ImageError:
        return False
    except OSError:
        return True
    return sniff(start) is not None or other_kind(start) is None


def _why(error: OSError) -> str:
    if isinstance(error, PermissionError):
        return "no permission to read it"
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    return f"it cannot be read: {reason(error)}"
