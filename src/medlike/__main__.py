"""Run `python -m medlike`."""

from medlike.cli import main

if __name__ == "__main__":
    main()
