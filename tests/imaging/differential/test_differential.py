"""medlike and independent decoders see the same pixels: in generated files, pydicom's test files and the collection."""

import sys
from pathlib import Path

import pydicom
import pytest

HERE = Path(__file__).parent
SEEDS = range(13)

#: Files that no witness reads, though medlike may: why.
NO_WITNESS = {
    "MR_truncated.dcm": "truncated, for both",
    "badVR.dcm": "a damaged header, for both",
    "JPEG2000-embedded-sequence-delimiter.dcm": "a damaged codestream, for both",
    "SC_rgb_jpeg.dcm": "DCMTK misses the end of its last item",
    "JLSL_08_07_0_1F.dcm": "DCMTK refuses 7 bits in a codestream whose header says 8",
    "gdcm-US-ALOKA-16.dcm": "DCMTK refuses palettes of SS values",
    "gdcm-US-ALOKA-16_big.dcm": "DCMTK refuses palettes of SS values",
    "liver_rle.dcm": "DCMTK does not decode run lengths of single bits",
    "liver_nonbyte_aligned_rle.dcm": "DCMTK does not decode run lengths of single bits",
    "liver_deflate.dcm": "DCMTK 3.6.7 does not know deflated frames; generated files have uncompressed twins",
    "liver_nonbyte_aligned_deflate.dcm": "as liver_deflate.dcm",
    "SC_rgb_32bit.dcm": "DCMTK shows no colour of 32 bits",
    "SC_rgb_32bit_2frame.dcm": "DCMTK shows no colour of 32 bits",
    "SC_rgb_expb_32bit.dcm": "DCMTK shows no colour of 32 bits",
    "SC_rgb_expb_32bit_2frame.dcm": "DCMTK shows no colour of 32 bits",
}

#: Files that the witness reads otherwise, and why that is no fault.
EXPLAINED = {
    "rtdose_expb.dcm": "32-bit samples in big-endian OW: DCMTK swaps words of 16 bits, so that its values are noise",
    "rtdose_expb_1frame.dcm": "as rtdose_expb.dcm",
}


@pytest.fixture(scope="module", autouse=True)
def modules():
    """The modules beside this file, which are no package."""
    sys.path.insert(0, str(HERE))
    yield
    sys.path.remove(str(HERE))


def pytest_generate_tests(metafunc):
    if "family" in metafunc.fixturenames:
        sys.path.insert(0, str(HERE))
        from comparison import FAMILIES

        sys.path.remove(str(HERE))
        metafunc.parametrize("family", FAMILIES)


def test_generated_files(family):
    """Some of each family. `make soak` compares two thousand in all."""
    from comparison import compare

    wrong = []
    for seed in SEEDS:
        how, words = compare(family, seed)
        if how:
            wrong.append(f"seed {seed}: {', '.join(words)}: {how}")
    assert not wrong, "\n".join(wrong)


def test_variants_repeat(tmp_path):
    """A seed names one file, so that a disagreement can be looked at again."""
    from variants import FAMILIES, variant

    for family in FAMILIES:
        first, second = tmp_path / f"{family} 1", tmp_path / f"{family} 2"
        first.mkdir()
        second.mkdir()
        one, other = variant(family, 3, first), variant(family, 3, second)
        assert one.words == other.words
        assert pydicom.dcmread(one.honest).PixelData == pydicom.dcmread(other.honest).PixelData


def test_a_wrong_value_is_seen(tmp_path):
    from comparison import disagreement
    from variants import variant
    from witnesses import witness

    drawn = variant("RLE", 1, tmp_path)
    expected = witness(drawn.honest, tmp_path)
    assert disagreement(drawn.path, expected, 0) is None
    expected.ravel()[7] += 1
    assert "by 1 at most" in disagreement(drawn.path, expected, 0)
    assert disagreement(drawn.path, expected[:, :, ::-1], 0)
    assert "shape" in disagreement(drawn.path, expected[:, 1:], 0)


def check(path, folder):
    from comparison import disagreement
    from witnesses import NoWitness, tolerance, witness

    dataset = pydicom.dcmread(path, force=True)
    if "PixelData" not in dataset or "Rows" not in dataset:
        return
    try:
        expected = witness(path, folder)
    except (NoWitness, ValueError) as error:
        assert path.name in NO_WITNESS, error
        return
    assert path.name not in NO_WITNESS
    assert (disagreement(path, expected, tolerance(dataset)) is None) == (path.name not in EXPLAINED)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_bundled_file(bundled, tmp_path):
    check(bundled, tmp_path)


@pytest.mark.collections
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_collected_file(collected, tmp_path):
    check(collected, tmp_path)
