"""The command line, one file a command; commands import what they need when they run: help is quick."""


def main() -> None:
    """Entry point of `medlike`. Exit codes: 0 done, 1 failed, 2 usage, 3 done with inputs refused."""
    import sys

    try:
        from medlike.cli.app import build

        build()(prog_name="medlike")
    except KeyboardInterrupt:
        sys.exit(130)
