"""What each kind of job does: its arguments, checked as the library checks them, and the call of the archive."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import cast, get_args

from medlike.archive.archive import Archive
from medlike.archive.intake.report import AddReport
from medlike.archive.intake.settings import IntakeSettings
from medlike.errors import QueryError
from medlike.service.jobs import Kind
from medlike.types import Json, JsonObject

#: Called with the report so far, which is of another class for each kind.
Told = Callable[[object], None]
_TYPES = {
    str: "a text",
    bool: "true or false",
    int: "a whole number",
    list: "a list of texts",
}
#: Kind -> argument -> the types that it may have.
ARGUMENTS: Mapping[Kind, Mapping[str, tuple[type, ...]]] = {
    "index": {
        "sources": (list,), "pixels": (str,), "frames": (str, int), "threads": (int,), "segmentations": (bool,),
        "on_conflict": (str,), "fit": (str,),
    },
    "reindex": {"bundle": (str,), "text_bundle": (str,), "drop_lost": (bool,)},
    "fit": {"bits": (int,), "labels": (str,)},
    "compact": {},
    "backup": {"target": (str,), "links": (bool,), "passphrase": (str,), "with_id_key": (bool,)},
    "verify": {},
    "upgrade": {"encode_again": (bool,)},
}  # fmt: skip
REQUIRED = {"index": "sources", "backup": "target"}
#: Kinds that can be run again after the writer died.
RESUMED = tuple(kind for kind in get_args(Kind) if kind != "backup")
#: An argument of the fits that the writer submits by itself; no request may give it.
DUE = "due"
_THREADS = 64


def checked(request: Mapping[str, Json]) -> tuple[Kind, JsonObject]:
    """Return the kind and the arguments of a job as submitted.

    Args:
        request: The member `kind`, and the arguments of that kind; an argument of None counts as not given.

    Raises:
        QueryError: The kind is unknown, or an argument is unknown, missing or makes no sense.
    """
    kind = request.get("kind")
    if not isinstance(kind, str) or kind not in ARGUMENTS:
        raise QueryError(f"the kind of job is {kind!r:.60}: give one of {', '.join(ARGUMENTS)}")
    known = ARGUMENTS[cast(Kind, kind)]
    arguments = {name: value for name, value in request.items() if name != "kind" and value is not None}
    for name, value in arguments.items():
        if name not in known:
            takes = f"it takes {', '.join(known)}" if known else "it takes none"
            raise QueryError(f"a job of kind {kind} has no argument {name[:60]!r}: {takes}")
        _require_type(name, value, known[name])
    if (required := REQUIRED.get(kind)) and not arguments.get(required):
        raise QueryError(f"a job of kind {kind} needs {required}: {_ABSOLUTE}")
    for path in (*arguments.get("sources", ()), *filter(None, [arguments.get("target")])):
        if not Path(path).is_absolute() or "\0" in path:
            raise QueryError(f"{path[:200]!r} is not an absolute path: {_ABSOLUTE}")
    if kind == "index":
        _require_intake(arguments)
    if kind == "backup" and arguments.get("passphrase") == "":
        raise QueryError("the passphrase is empty: give one, or leave it out for a backup that is not encrypted")
    return cast(Kind, kind), arguments


_ABSOLUTE = "give absolute paths on the machine of the service"


def _require_type(name: str, value: Json, types: tuple[type, ...]) -> None:
    fits = type(value) in types and (not isinstance(value, list) or all(isinstance(each, str) for each in value))
    if not fits:
        raise QueryError(f"{name} is {value!r:.60}: give {' or '.join(_TYPES[each] for each in types)}")


def _require_intake(arguments: JsonObject) -> None:
    frames, threads = arguments.get("frames", "middle"), arguments.get("threads", 0)
    if frames not in ("middle", "all") and not (isinstance(frames, int) and frames > 0):
        raise QueryError(f"frames is {frames!r:.60}: it is neither all, middle, nor a number from 1")
    if not 0 <= threads <= _THREADS:
        raise QueryError(f"threads is {threads}: give 0 to {_THREADS}")
    IntakeSettings(**{name: value for name, value in arguments.items() if name not in ("sources", "segmentations")})


def run(archive: Archive, kind: Kind, arguments: JsonObject, told: Told, wait: float) -> Json:
    """Do a job, and return its report as JSON holds it.

    Args:
        archive: The archive.
        kind: What to do.
        arguments: Checked arguments.
        told: Called with the report so far, where the work could end.
        wait: Seconds to wait for another writer.

    Raises:
        MedlikeError: As the method of the archive.
    """
    if kind == "index":
        return archive.add(**arguments, progress=told, wait=wait).to_dict()
    if kind == "reindex":
        return asdict(archive.reindex(**arguments, progress=told, wait=wait))
    if kind == "fit" and arguments.get(DUE):
        drained = archive.drain(limit=0, progress=lambda report: told(report.fit), wait=wait)
        if drained.fit is None:
            return {"remarks": [remark for _, remark in drained.remarks]}
        return asdict(drained.fit)
    if kind == "fit":
        return asdict(archive.fit(**arguments, progress=told, wait=wait))
    if kind == "compact":
        return asdict(archive.compact(wait=wait))
    if kind == "backup":
        return asdict(archive.backup(**arguments))
    if kind == "verify":
        return {"problems": [asdict(problem) for problem in archive.verify()]}
    return asdict(archive.upgrade(**arguments, progress=told, wait=wait))


def counts(report: object) -> JsonObject:
    """Return the numbers and short facts of a report so far; of a list, how long it is.

    Args:
        report: A report of any kind of work.
    """
    facts: JsonObject = {}
    if is_dataclass(report):
        for each in fields(report):
            value = getattr(report, each.name)
            if isinstance(value, list):
                facts[each.name] = len(value)
            elif is_dataclass(value):
                facts[each.name] = counts(value)
            elif isinstance(value, str | int | float) and each.name != "note":
                facts[each.name] = value
    return facts


def ended(report: object) -> Json:
    """Return the report of work that was refused as a whole, as JSON holds it."""
    return report.to_dict() if isinstance(report, AddReport) else None
