"""The wheel of medlike holds medlike and its samples, and nothing of what measures it."""

from pathlib import Path

from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parents[2]


def test_the_wheel_holds_no_research():
    builder = WheelBuilder(str(ROOT))
    files = [file.distribution_path for file in builder.recurse_included_files()]
    names = [name for name in files if name.endswith(".py")]
    assert "medlike/cli/app.py" in names and "medlike/samples/manifest.csv" in files
    assert not [name for name in files if not name.startswith("medlike/")]
    for gone in ("evaluation/studies", "evaluation/speed", "cli/study", "cli/bench", "cli/reference", "losses/csq"):
        assert not [name for name in names if gone in name], gone
