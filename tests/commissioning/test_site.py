"""A site's own images: read, judged, and made the measure of what is usual."""

import numpy as np
import pytest
from PIL import Image

from medlike.bundle import Bundle, rewrite
from medlike.commissioning.commission import commission
from medlike.commissioning.site import calibrate, read_site
from medlike.errors import BundleError, InputError
from medlike.inference import Encoder
from medlike.training.outlier_fit import fit_contrast


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_pictures):
    """130 pictures of patients with one or two images, unlike those the tiny bundle was calibrated on."""
    made = tmp_path_factory.mktemp("site")
    pictures = 255 - tiny_pictures(130, seed=9)
    lines = ["path,group,source"]
    for number, picture in enumerate(pictures):
        Image.fromarray(picture).save(made / f"{number:03d}.png")
        patient = f"p{number // 2}" if number < 40 else f"q{number}"
        lines.append(f"{number:03d}.png,{patient},clinic")
    (made / "manifest.csv").write_text("\n".join(lines) + "\n")
    return made


@pytest.fixture(scope="module")
def site(folder, tiny_bundle):
    with Encoder(tiny_bundle) as encoder:
        return read_site(encoder, [folder / "manifest.csv"])


def test_images_of_one_patient_are_one_unit(site):
    assert len(site) == len(site.encodings) == len(site.features) == 130
    assert (site.units[0:40:2] == site.units[1:40:2]).all()
    assert len(np.unique(site.units)) == 110


def test_equal_images_are_one_unit(folder, tiny_bundle, tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.png").write_bytes((folder / "005.png").read_bytes())
    (tmp_path / "c.png").write_bytes((folder / "007.png").read_bytes())
    with Encoder(tiny_bundle) as encoder:
        found = read_site(encoder, [tmp_path])
    assert found.units.tolist() == [0, 0, 1]


def test_calibrating_keeps_codes_and_makes_the_site_usual(site, tiny_bundle, tmp_path):
    made = calibrate(tiny_bundle, site, tmp_path / "ours")
    assert made.encoder_digest == tiny_bundle.encoder_digest and made.digest != tiny_bundle.digest
    facts = made.spec["outlier"]
    assert facts["calibration_units"]["pooled"] == 55
    assert facts["reference_images"] > tiny_bundle.spec["outlier"]["reference_images"]
    pictures = [np.asarray(Image.open(path)) for path in site.paths]
    with Encoder(made) as encoder:
        after = encoder.encode(pictures)
    np.testing.assert_array_equal(after.code, site.encodings.code)
    assert site.encodings.outlier.is_outlier.mean() > 0.1
    assert after.outlier.is_outlier.mean() < 0.05


@pytest.fixture(scope="module")
def contrast_bundle(tiny_bundle, tiny_pictures, tmp_path_factory):
    """The tiny bundle with an outlier part that is calibrated over sources left out and holds no reference."""
    with Encoder(tiny_bundle) as encoder:
        known = encoder.features(list(tiny_pictures(120, seed=1)), "outlier_features")
        noise = np.random.default_rng(0).integers(0, 256, (30, 224, 224), dtype=np.uint8)
        others = encoder.features(list(noise), "outlier_features")
    origins = [f"hospital {n % 6}" for n in range(120)]
    modality = ["CT"] * 120
    arrays, facts = fit_contrast(
        known, known.shape[1], origins, np.arange(120), modality, others, ["noise"] * 30, np.random.default_rng(0)
    )
    former = [name for name in tiny_bundle.array_names() if name.startswith("outlier.")]
    emptied = dict.fromkeys(former, np.zeros(0, np.float32)) | arrays
    return rewrite(tiny_bundle, tmp_path_factory.mktemp("contrast") / "bundle", emptied, {"outlier": facts})


def test_every_patient_calibrates_a_bundle_without_a_reference(folder, site, contrast_bundle, tmp_path):
    with Encoder(contrast_bundle) as encoder:
        read = read_site(encoder, [folder / "manifest.csv"])
    np.testing.assert_array_equal(read.encodings.code, site.encodings.code)
    made = calibrate(contrast_bundle, read, tmp_path / "ours")
    facts = made.spec["outlier"]
    assert facts["calibration_units"]["pooled"] == 110 and facts["fitted_to_a_site"]
    assert facts["reference_images"] == contrast_bundle.spec["outlier"]["reference_images"]
    assert made.array("outlier.calibration_weight").tolist() == [1.0] * 110
    with Encoder(made) as encoder:
        after = encoder.encode([np.asarray(Image.open(path)) for path in read.paths]).outlier
    np.testing.assert_array_equal(after.score, read.outlier.score)
    assert after.is_outlier.mean() < 0.05


def test_a_bundle_without_a_reference_is_commissioned(folder, contrast_bundle):
    report = commission(contrast_bundle, [folder / "manifest.csv"]).report
    assert report["images"] == 130 and report["false_alarms"]["threshold"] == 0.03
    assert all(0 <= row["drift"] <= 1 for row in report["scanners"])


def test_too_few_patients_are_refused(folder, tiny_bundle, tmp_path):
    with Encoder(tiny_bundle) as encoder:
        found = read_site(encoder, [folder / f"{number:03d}.png" for number in range(41, 81)])
    with pytest.raises(InputError, match=r"20 calibration units; a threshold of 0\.03 needs at least 33"):
        calibrate(tiny_bundle, found, tmp_path / "ours")
    assert not (tmp_path / "ours").exists()


def test_what_cannot_be_read_is_listed(folder, tiny_bundle, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing more")
    (tmp_path / "good.png").write_bytes((folder / "000.png").read_bytes())
    with Encoder(tiny_bundle) as encoder:
        found = read_site(encoder, [tmp_path])
        assert [path.endswith("bad.png") for path, _ in found.refused] == [True]
        assert len(found) == 1
        with pytest.raises(InputError, match="no image could be read; the first reason"):
            read_site(encoder, [tmp_path / "bad.png"])


def test_a_bundle_without_verdicts_is_refused(folder, tiny_bundle, tmp_path):
    bare = rewrite(tiny_bundle, tmp_path / "bare", None, {"outlier": None})
    with Encoder(bare) as encoder, pytest.raises(BundleError, match="gives no outlier verdicts"):
        read_site(encoder, [folder])
    assert Bundle.load(tmp_path / "bare").spec["outlier"] is None
