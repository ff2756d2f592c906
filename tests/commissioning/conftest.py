"""A site of 40 studies, and the report on it."""

import numpy as np
import pytest
from PIL import Image

from medlike.commissioning.commission import commission


@pytest.fixture(scope="session")
def place(tmp_path_factory, tiny_pictures):
    """80 pictures of 40 studies with two alike each, one of them stored for two patients, and a file that is none."""
    made = tmp_path_factory.mktemp("place")
    pictures = tiny_pictures(40, seed=5)
    lines = ["path,patient_id,study_uid,modality,manufacturer,model"]
    for number, picture in enumerate(pictures):
        for side in (0, 1):
            shown = np.where(picture > 0, np.clip(picture.astype(int) + 20 * side, 1, 255), 0).astype(np.uint8)
            Image.fromarray(shown).save(made / f"{number:02d}-{side}.png")
            maker = ("North", "One") if number < 20 else ("South", "Two")
            lines.append(f"{number:02d}-{side}.png,p{number},s{number},CT,{','.join(maker)}")
    (made / "again.png").write_bytes((made / "03-0.png").read_bytes())
    lines.append("again.png,somebody-else,s99,CT,North,One")
    (made / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno picture")
    lines.append("broken.png,p9,s98,CT,North,One")
    (made / "manifest.csv").write_text("\n".join(lines) + "\n")
    return made


@pytest.fixture(scope="session")
def judged(place, tiny_bundle):
    return commission(tiny_bundle, [place / "manifest.csv"])


@pytest.fixture(scope="session")
def report(judged):
    return judged.report
