"""Commands of medlike and their order in the help."""

from typing import Annotated

import typer

from medlike import __version__
from medlike.cli import (
    backup,
    bundle,
    calibrate,
    commission,
    compact,
    compare,
    demo,
    evaluate,
    facets,
    fit,
    index,
    info,
    model,
    reindex,
    remove,
    restore,
    search,
    serve,
    text,
    train,
    triage,
    upgrade,
    verify,
)
from medlike.cli import list as listing
from medlike.cli.added import Commands
from medlike.cli.exits import guarded


def build() -> typer.Typer:
    """Return the application with all commands, each guarded so that no traceback reaches the user."""
    app = typer.Typer(
        name="medlike",
        cls=Commands,
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        help="Find medical images like this one.",
        epilog="Start with: medlike demo",
    )
    app.callback()(_root)
    for panel, commands in (
        ("Search", (demo, index, search, listing, facets, triage, serve)),
        ("Measure", (evaluate, compare)),
        ("Train", (train, calibrate, commission)),
        ("Maintain an archive", (info, verify, remove, compact, backup, restore, reindex, fit, upgrade)),
    ):
        for module in commands:
            name = module.__name__.rpartition(".")[2]
            command = getattr(module, "list_images" if name == "list" else name)
            app.command(name, epilog=module.EXAMPLES, rich_help_panel=panel)(guarded(command))
    bundles = typer.Typer(no_args_is_help=True, help="Show and build bundles: models on disk.")
    bundles.command("info", epilog=bundle.EXAMPLES)(guarded(bundle.info))
    bundles.command("card", epilog=bundle.CARD)(guarded(bundle.card))
    bundles.command("build", epilog=bundle.BUILD)(guarded(bundle.build))
    app.add_typer(bundles, name="bundle", rich_help_panel="Models")
    models = typer.Typer(no_args_is_help=True, help="Show the networks that can be trained.")
    models.command("info", epilog=model.EXAMPLES)(guarded(model.info))
    app.add_typer(models, name="model", rich_help_panel="Models")
    texts = typer.Typer(no_args_is_help=True, help="Install the weights for search by text.")
    texts.command("install", epilog=text.EXAMPLES)(guarded(text.install))
    app.add_typer(texts, name="text", rich_help_panel="Models")
    return app


def _show_version(show: bool) -> None:
    if show:
        print(f"medlike {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Find medical images like this one."""
