"""medlike demo: index the samples, search them, draw the results."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from medlike import Archive, Result
    from medlike.archive.intake.report import AddReport
    from medlike.types import JsonObject

EXAMPLES = """[b]Examples[/b]

medlike demo

medlike demo /tmp/medlike-demo
"""


@dataclass(frozen=True)
class Question:
    """A search of the demo.

    Attributes:
        title: What the demo calls it.
        file: The name of a sample. Without file and text, the query is the best hit of the search before.
        text: Words to search by.
        region: A box in pixels of the file: x0, y0, x1, y1, half-open. It needs a bundle with local codes.
        settings: Settings of the search.
    """

    title: str
    file: str = ""
    text: str = ""
    region: tuple[float, float, float, float] | None = None
    settings: "JsonObject" = field(default_factory=dict)

    @property
    def words(self) -> str:
        """Return the settings as the command line writes them."""
        words = [f'--text "{self.text}"'] if self.text else []
        if self.region is not None:
            words.append(f"--region {','.join(f'{edge:g}' for edge in self.region)}")
        for name, value in self.settings.items():
            if name == "where":
                words += [f"--where {key}={required}" for key, required in value.items()]
            else:
                words.append(f"--{name.replace('_', '-')} {value}")
        return " ".join(words)


QUESTIONS = (
    Question("A chest radiograph", "chest-86d19bba.jpg"),
    Question("A fetal head", "fetal-031_HC.jpg"),
    Question("A blood smear", "blood-BloodImage_00000.jpg"),
    Question("A DICOM radiograph", "RG1_J2KI.dcm"),
    Question("More like its first hit", settings={"where": {"modality": "XR"}}),
    Question("A drawn CT, hit by series", "ct-4-3.dcm", settings={"group_by": "series"}),
    Question("A drawn mass, among US", "us-breast-10.png", settings={"where": {"modality": "US"}}),
    Question("In words", text="ring-enhancing lesion of the head"),
    Question("Words and a chest radiograph", "chest-86d19bba.jpg", "implanted cardiac device"),
    Question("The base of a lung", "chest-86d19bba.jpg", region=(22, 135, 112, 212)),
    Question("The head alone", "fetal-031_HC.jpg", region=(89, 65, 179, 165)),
    Question("The drawn mass alone", "us-breast-10.png", region=(80, 56, 116, 88)),
)


def demo(
    folder: Annotated[Path, typer.Argument(help="Folder for the archive, the contact sheet and the page.")] = Path(
        "medlike-demo"
    ),
) -> None:
    """Index the sample images that come with medlike, search them, and draw the results.

    It takes seconds and needs no network. Run it again to use the same archive.
    """
    from medlike.cli.answers import show
    from medlike.cli.fit import fitted
    from medlike.cli.screen import out, say
    from medlike.datasets.shipped import attributions, samples
    from medlike.display.page import page
    from medlike.display.sheet import draw, write

    began = time.perf_counter()
    shipped, console = samples(), out()
    place = folder / "archive"
    opened, report = indexed(place)
    with opened:
        console.print(f"[b]{len(opened)}[/b] images in the archive, [b]{report.added}[/b] of them new")
        if report.fit is not None:
            console.print(fitted(report.fit))
        questions = [question for question in QUESTIONS if question.region is None or opened.bundle.local_bits]
        results = _answers(opened, shipped, questions)
        for question, result in zip(questions, results, strict=True):
            show(result, f"{question.title}  {question.words}".rstrip())
        sheet, html = folder / "sheet.png", folder / "page.html"
        write(draw(results), sheet)
        names = [f"queries/{question.file}" for question in questions if question.file]
        shown = [Path(hit.source["path"]) for result in results for hit in result if hit.source and hit.source["path"]]
        names += [file.relative_to(shipped).as_posix() for file in shown if file.is_relative_to(shipped)]
        page(results, html, "medlike demo", attributions=attributions(names))
    console.print(f"{time.perf_counter() - began:.1f} s. Look at:")
    for path in (html, sheet):
        say(f"  {path}")
    say(f"Search on: medlike search IMAGE --archive {place}")
    say(f"Open the page of this archive in your browser: medlike serve --archive {place} --open")


def indexed(place: Path) -> "tuple[Archive, AddReport]":
    """Return an archive of the samples, made or completed and fitted, and the report of what was added.

    Args:
        place: Its folder.
    """
    from medlike.cli.screen import progress
    from medlike.datasets.shipped import MANIFEST, samples

    opened = _opened(place)
    try:
        with progress() as display:
            task = display.add_task("Indexing the samples", total=None)
            manifest = samples() / MANIFEST
            report = opened.add(manifest, progress=lambda so_far: display.update(task, completed=so_far.files))
        if report.added or opened.info()["fit"] is None:
            # By itself an archive is fitted from 500 images on. The demo shows the search of such an archive.
            report = replace(report, fit=opened.fit())
    except BaseException:
        opened.close()
        raise
    return opened, report


def _opened(place: Path) -> "Archive":
    """Return the archive of an earlier demo, encoded with the bundles of this medlike, or a new one."""
    from medlike import Archive, Bundle
    from medlike.archive.storage.folder import TextBundleFacts, default_text_bundle, encode_alike
    from medlike.bundle import default

    if not (place / "archive.json").exists():
        return Archive.create(place)
    opened, bundle = Archive.open(place), Bundle.load(default())
    if opened.bundle.digest != bundle.digest:
        opened.reindex(bundle)
    text, has = default_text_bundle(bundle), opened.text_bundle
    if text is not None and (has is None or not encode_alike(has, TextBundleFacts.of(text))):
        opened.reindex(text_bundle=text)
    return opened


def _answers(opened: "Archive", shipped: Path, questions: Sequence[Question]) -> "list[Result]":
    from medlike import Query

    results: list[Result] = []
    for question in questions:
        if question.file or question.text:
            image = shipped / "queries" / question.file if question.file else None
            query = Query(image=image, text=question.text or None, region=question.region)
        else:
            query = Query(id=results[-1].hits[0].id)
        result = opened.search(query, k=5, **question.settings)
        title = f"{question.title}: {question.text}" if question.text else question.title
        results.append(replace(result, title=title))
    return results
