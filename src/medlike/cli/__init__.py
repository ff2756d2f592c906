"""Command line, one file for each command. A command imports what it needs when it runs, so help is quick."""


def main() -> None:
    """Run `medlike`. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 done with inputs refused, 130 interrupted."""
    import sys

    try:
        from medlike.cli.app import build

        build()(prog_name="medlike")
    except KeyboardInterrupt:
        sys.exit(130)
