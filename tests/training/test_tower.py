"""Bundles from any vision tower: ONNX files, and tiny random models of timm, transformers and open_clip."""

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from medlike import Archive
from medlike.bundle.phantoms import phantoms
from medlike.cli.app import build as application
from medlike.datasets import prepare_batches, read_collection
from medlike.errors import InputError, TrainingError
from medlike.inference import Encoder
from medlike.training.tower import TowerFacts, read_tower
from medlike.training.tower_bundle import TowerFit, build_bundle
from medlike.training.tower_export import open_tower


@pytest.fixture
def graph_file(tmp_path):
    """graph_file(shape=, opset=, layout=, kind=, ...): an ONNX file of random maps, tokens and a vector."""

    def make(shape=("N", 3, 64, 64), opset=17, last=False, kind=TensorProto.FLOAT, external=False, **metadata):
        random = np.random.default_rng(0)
        weights = {
            "w1": random.normal(size=(24, 3, 8, 8)) / 14, "w2": random.normal(size=(48, 24, 2, 2)) / 10,
            "classes": random.normal(size=(1, 1, 48)),
        }  # fmt: skip
        # Names that the bundle's own graph uses too: they must not meet.
        nodes = [
            helper.make_node("Cast", ["image"], ["wide"], to=TensorProto.FLOAT),
            helper.make_node("Transpose", ["wide"], ["planes"], perm=[0, 3, 1, 2] if last else [0, 1, 2, 3]),
            helper.make_node("Conv", ["planes", "w1"], ["first"], strides=[8, 8]),
            helper.make_node("Relu", ["first"], ["low"]),
            helper.make_node("Resize", ["low", "", "scales"], ["bits"], mode="nearest"),
            helper.make_node("Transpose", ["bits"], ["content"], perm=[0, 2, 3, 1]),
            helper.make_node("Conv", ["bits", "w2"], ["second"], strides=[2, 2]),
            helper.make_node("Flatten", ["second"], ["flat"], axis=2),
            helper.make_node("Reshape", ["second", "rows"], ["columns"]),
            helper.make_node("Transpose", ["columns"], ["patches"], perm=[0, 2, 1]),
            helper.make_node("Concat", ["classes", "patches"], ["tokens"], axis=1),
            helper.make_node("GlobalMaxPool", ["second"], ["peaks"]),
            helper.make_node("Flatten", ["peaks"], ["vector"]),
        ]
        constants = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
        constants.append(numpy_helper.from_array(np.array([1, 48, 64]), "rows"))
        constants.append(numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales"))
        outputs = ("bits", "content", "tokens", "vector")
        model = helper.make_model(
            helper.make_graph(
                nodes, "g", [helper.make_tensor_value_info("image", kind, shape)],
                [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs], constants,
            ),
            opset_imports=[helper.make_opsetid("", opset)], ir_version=9,
        )  # fmt: skip
        helper.set_model_props(model, {key: str(value) for key, value in metadata.items()})
        file = tmp_path / "tower.onnx"
        onnx.save_model(model, file, save_as_external_data=external, location="beside.bin", size_threshold=512)
        return file

    return make


@pytest.fixture(scope="module")
def few(write_phantoms, tmp_path_factory):
    return write_phantoms(tmp_path_factory.mktemp("few") / "phantoms", each=5, strange=2, size=64)


@pytest.fixture(scope="module")
def many(write_phantoms, tmp_path_factory):
    return write_phantoms(tmp_path_factory.mktemp("many") / "phantoms", each=66, strange=40, size=48)


def medlike(*words):
    done = CliRunner().invoke(application(), [str(word) for word in words])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


def expected_features(tower, picture):
    """The pooled features by hand: the session on pixels as the tower's makers would prepare them."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(tower.file))
    pixels = (picture[None].astype(np.float64) / 255 - np.reshape(tower.mean, (-1, 1, 1))) / np.reshape(
        tower.std, (-1, 1, 1)
    )
    bits, content, tokens, vector = session.run(None, {"image": pixels[None].astype(np.float32)})
    parts = [bits.mean((2, 3)), content.mean((1, 2)), tokens[:, 0], tokens[:, 1:].mean(1), vector]
    return np.concatenate(parts, axis=1)[0]


def test_a_tower_is_read_and_pooled_at_each_output(graph_file):
    tower = read_tower("onnx:t", graph_file(), normalise="imagenet")
    assert (tower.size, tower.channels, tower.layout, tower.kind) == (64, 3, "NCHW", "float32")
    assert tower.licence == "unknown: check it"
    assert [(p.output, p.layout, p.prefix) for p in tower.poolings] == [
        ("bits", "NCHW", 0), ("content", "NHWC", 0), ("tokens", "tokens", 1), ("vector", "vector", 0),
    ]  # fmt: skip
    assert tower.widths == (24, 24, 48, 48, 48)
    picture = phantoms(1, 64)[0]
    np.testing.assert_allclose(tower.runner().pooled(picture), expected_features(tower, picture), atol=1e-4)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.UINT8])
def test_a_bundle_gives_what_its_tower_gives(graph_file, few, tmp_path, last, kind):
    shape = (1, 64, 64, 3) if last else (1, 3, 64, 64)
    file = graph_file(shape, last=last, kind=kind, external=True)
    tower = read_tower("onnx:t", file, outputs=["bits", "tokens"], normalise="clip")
    lines = []
    made = build_bundle(tower, read_collection(few), tmp_path / "out", TowerFit(bits=16), say=lines.append)
    assert made.spec["quality"]["smallest_cosine"] > 0.999 and made.spec["quality"]["equal_bits"] > 0.97
    assert (made.image_size, made.bits, made.outputs) == (64, 16, ["bits", "content"])
    stated = made.spec["preprocessing"]
    assert (stated["size"], stated["channels"], stated["layout"]) == (64, 3, "NHWC" if last else "NCHW")
    assert made.spec["outlier"] is None and any("no outlier verdicts" in line for line in lines)
    assert made.golden_inputs().shape == (16, 64, 64)
    with Encoder(made) as encoder:
        assert encoder.golden_share == 1
        encodings = encoder.encode([np.zeros((30, 50), np.uint8), phantoms(1, 64)[0]])
    assert encodings.code.shape == (2, 2) and encodings.outlier is None and encodings.cells is None


def test_the_content_is_evened_out_and_centred(graph_file, few, tmp_path):
    tower = read_tower("onnx:t", graph_file(), normalise="half")
    known = read_collection(few).where(lambda sample: not sample.is_ood)
    made = build_bundle(tower, known, tmp_path / "out")
    assert made.content_dim == len(known)  # one less directions, and the one that centring takes
    pictures = [prepared.pixels for batch in prepare_batches(known, side=64) for prepared in batch]
    with Encoder(made) as encoder:
        content = encoder.features(pictures, "content").astype(np.float64)
    assert np.abs(content.mean(axis=1)).max() < 1e-3 * np.abs(content).max()
    pooled = np.stack([tower.runner().pooled(picture) for picture in pictures]).astype(np.float64)
    deviation = pooled.std(axis=0)  # the class token is the same for every picture
    standard = (pooled - pooled.mean(axis=0)) / np.where(deviation < 1e-5, np.inf, deviation)
    standard /= np.sqrt(np.repeat(tower.widths, tower.widths) * len(tower.widths))
    before = np.linalg.svd(standard, compute_uv=False)[:20]
    after = np.linalg.svd(content - content.mean(axis=0), compute_uv=False)[:20]
    # Half evened out: each deviation becomes its root.
    np.testing.assert_allclose(after / after[0], np.sqrt(before / before[0]), rtol=0.02)


@pytest.mark.slow
def test_verdicts_come_with_enough_images(graph_file, many, tmp_path):
    tower = read_tower("onnx:t", graph_file(), normalise="unit")
    data = read_collection(many)
    assert sum(not sample.is_ood for sample in data) >= 500
    contrast = build_bundle(tower, data, tmp_path / "contrast")
    assert contrast.spec["outlier"]["components"] == ["contrast"]
    assert contrast.spec["outlier"]["outlier_kinds"] == ["checks", "stripes"]
    known = data.where(lambda sample: not sample.is_ood)
    usual = build_bundle(tower, known, tmp_path / "usual")
    assert usual.spec["outlier"]["components"] == ["neighbours", "mahalanobis"]
    assert usual.spec["training"]["images"] < len(known) == contrast.spec["training"]["images"]
    with Encoder(contrast) as encoder:
        strange = encoder.encode([sample.file for sample in data if sample.is_ood]).outlier
        familiar = encoder.encode([sample.file for sample in known][::8]).outlier
    assert strange.is_outlier.mean() > 0.9 and familiar.is_outlier.mean() < 0.1


def test_what_a_file_states_is_used(graph_file, tmp_path):
    file = graph_file(("N", 3, "H", "W"), mean=[0.1, 0.2, 0.3], std=[0.5, 0.5, 0.5], license="MIT")
    with pytest.raises(TrainingError, match="how large its pictures are; give --size"):
        read_tower("onnx:t", file)
    tower = read_tower("onnx:t", file, TowerFacts(64))
    assert (tower.mean, tower.std, tower.licence) == ((0.1, 0.2, 0.3), (0.5, 0.5, 0.5), "MIT")
    graph_file(("N", 3, "H", "W"))
    config = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3, "crop_size": {"height": 64, "width": 64}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(config))
    (tmp_path / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A model\n")
    tower = read_tower("onnx:t", file)
    assert (tower.size, tower.mean, tower.licence) == (64, (0.5,) * 3, "apache-2.0")


def test_what_cannot_be_a_tower_is_refused(graph_file, tmp_path):
    with pytest.raises(TrainingError, match=r"nothing says how .* wants its pixels; give --normalise"):
        read_tower("onnx:t", graph_file())
    with pytest.raises(TrainingError, match="opset 11; export it again with opset 13"):
        read_tower("onnx:t", graph_file(opset=11), normalise="unit")
    with pytest.raises(TrainingError, match="1 or 3 channels"):
        read_tower("onnx:t", graph_file((1, 5, 64, 64)), normalise="unit")
    with pytest.raises(TrainingError, match="a square of this size"):
        read_tower("onnx:t", graph_file((1, 3, 64, 96)), normalise="unit")
    with pytest.raises(TrainingError, match="neither one of imagenet, clip"):
        read_tower("onnx:t", graph_file(), normalise="warm")
    with pytest.raises(TrainingError, match="do not fit 3 channels"):
        read_tower("onnx:t", graph_file(), normalise="0,0/1,1")
    with pytest.raises(TrainingError, match="no output maps; it has: bits, content, tokens, vector"):
        read_tower("onnx:t", graph_file(), outputs=["maps"], normalise="unit")
    (tmp_path / "broken.onnx").write_bytes(b"no graph")
    with pytest.raises(TrainingError, match="cannot be read as ONNX"):
        read_tower("onnx:t", tmp_path / "broken.onnx")
    file = graph_file(external=True)
    (tmp_path / "beside.bin").unlink()
    with pytest.raises(TrainingError, match="files that it names must lie beside it"):
        read_tower("onnx:t", file, normalise="unit")


def test_weights_that_do_not_survive_half_precision_make_no_bundle(graph_file, few, tmp_path):
    file = graph_file()
    model = onnx.load(file)
    weights = next(tensor for tensor in model.graph.initializer if tensor.name == "w1")
    tiny = numpy_helper.to_array(weights) * np.float32(1e-9)
    weights.CopyFrom(numpy_helper.from_array(tiny.astype(np.float32), "w1"))
    onnx.save_model(model, file)
    tower = read_tower("onnx:t", file, outputs=["bits"], normalise="half")
    with pytest.raises(TrainingError, match="does not give what onnx:t gives"):
        build_bundle(tower, read_collection(few), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_names_that_mean_nothing_are_refused(tmp_path):
    with pytest.raises(InputError, match="give onnx:FILE, timm:NAME, hf:NAME or open_clip:NAME"):
        open_tower("keras:resnet", tmp_path)
    with pytest.raises(TrainingError, match="does not exist"):
        open_tower(f"onnx:{tmp_path / 'none.onnx'}", tmp_path)
    with pytest.raises(InputError, match="--weights has no use"):
        open_tower("onnx:t.onnx", tmp_path, tmp_path)


def test_the_command_builds_a_bundle_that_an_archive_uses_without_verdicts(graph_file, few, tmp_path):
    words = ("bundle", "build", "--encoder", f"onnx:{graph_file(license='MIT')}", "--normalise", "imagenet")
    done = medlike(*words, "--data", few, "--out", tmp_path / "mine", "--format", "json")
    assert done.exit_code == 0, done.stderr
    assert "licence MIT" in done.stderr and "gives no outlier verdicts" in done.stderr
    facts = json.loads(done.stdout)
    assert facts["name"] == "mine" and facts["preprocessing"]["size"] == 64 and facts["outlier_verdicts"] is False
    again = medlike(*words, "--data", few, "--out", tmp_path / "mine")
    assert again.exit_code == 1 and "exists already" in again.stderr
    assert medlike("bundle", "card", tmp_path / "mine").exit_code == 0
    assert "MIT" in medlike("bundle", "info", tmp_path / "mine").stdout
    with Archive.create(tmp_path / "archive", bundle=tmp_path / "mine") as archive:
        report = archive.add(few)
        assert report.added == 42
    picture = sorted(few.glob("*.png"))[0]
    found = medlike("search", picture, "--archive", tmp_path / "archive", "--format", "json")
    assert found.exit_code == 0, found.stderr
    result = json.loads(found.stdout)
    assert result["hits"][0]["distance"] == 0 and result["outlier"] is None
    table = medlike("search", picture, "--archive", tmp_path / "archive", "--page", tmp_path / "page.html")
    assert table.exit_code == 0 and "No verdict on the query" in table.stdout
    assert "No verdict on the query" in (tmp_path / "page.html").read_text()


def test_a_file_that_is_missing_is_named_before_what_is_not_installed(graph_file, few, tmp_path, monkeypatch):
    monkeypatch.setattr("medlike.cli.exits.find_spec", lambda name: None)
    words = ("bundle", "build", "--out", tmp_path / "out", "--encoder")
    missing = medlike(*words, f"onnx:{tmp_path / 'none.onnx'}", "--data", few)
    assert missing.exit_code == 1 and "none.onnx does not exist" in missing.stderr
    missing = medlike(*words, "timm:vit", "--weights", tmp_path / "none.pth", "--data", few)
    assert missing.exit_code == 1 and "none.pth does not exist" in missing.stderr
    missing = medlike(*words, f"onnx:{graph_file()}", "--data", tmp_path / "none.csv")
    assert missing.exit_code == 1 and "none.csv" in missing.stderr
    assert "torch" in medlike(*words, f"onnx:{graph_file()}", "--data", few).stderr


def test_a_bundle_with_regions_keeps_the_size_of_its_cells(tiny_regional_bundle, tmp_path):
    from medlike.bundle import specification

    spec = dict(tiny_regional_bundle.spec) | {"preprocessing": {"size": 256}}
    assert "local codes are of images of 224" in specification.problem(spec, tuple(spec["files"]))
    spec = dict(tiny_regional_bundle.spec) | {"preprocessing": {"size": 8}}
    assert "not a number from 32 to 1024" in specification.problem(spec, tuple(spec["files"]))


def built(encoder, few, folder, **options):
    """The tower of an encoder and the bundle made from it, which must agree."""
    tower = open_tower(encoder, folder, **options)
    made = build_bundle(tower, read_collection(few), folder / "out", TowerFit(bits=16))
    assert made.spec["quality"]["smallest_cosine"] > 0.999
    return tower, made


@pytest.mark.parametrize(
    ("name", "size", "depths"),
    [
        ("vit_tiny_patch16_224", 64, ["NCHW"] * 4 + ["tokens"]),
        ("test_convnext", None, ["NCHW"] * 4),
        ("test_resnet", None, ["NCHW"] * 5),
    ],
)
@pytest.mark.slow
def test_a_timm_model_is_pooled_at_several_depths(open_clip, few, tmp_path, name, size, depths):
    import timm
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False).eval()
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, tmp_path / "w.safetensors")
    tower, made = built(f"timm:{name}", few, tmp_path, weights=tmp_path / "w.safetensors", size=size)
    assert [pooling.layout for pooling in tower.poolings] == depths
    config = model.pretrained_cfg
    assert tower.mean == config["mean"] and tower.size == made.image_size == (size or config["input_size"][-1])
    if size is not None:
        model.set_input_size(img_size=size)
    picture = phantoms(1, tower.size)[0]
    with torch.inference_mode():
        last = model.forward_features(torch.from_numpy(tower.taken(picture)))
    expected = torch.cat([last[:, 0], last[:, 1:].mean(1)], 1) if last.ndim == 3 else last.mean((2, 3))
    given = tower.runner().pooled(picture)[-expected.shape[1] :]
    np.testing.assert_allclose(given, expected[0].numpy(), atol=1e-3)


@pytest.mark.slow
def test_timm_weights_are_read_from_disk_or_not_at_all(open_clip, tmp_path):
    import timm
    import torch

    with pytest.raises(TrainingError, match="knows no model 'no_such_net'"):
        open_tower("timm:no_such_net", tmp_path)
    with pytest.raises(TrainingError, match=r"test_vit.* are not on this machine; give --weights FILE; docs/encoders"):
        open_tower("timm:test_vit.r160_in1k", tmp_path)
    torch.save(timm.create_model("test_resnet").state_dict(), tmp_path / "other.pth")
    with pytest.raises(TrainingError, match=r"lacks .* weights of the model"):
        open_tower("timm:test_vit", tmp_path, weights=tmp_path / "other.pth")
    torch.save({"model": torch.nn.Linear(2, 2)}, tmp_path / "code.pth")
    with pytest.raises(TrainingError, match="cannot be loaded as weights"):
        open_tower("timm:test_vit", tmp_path, weights=tmp_path / "code.pth")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["dinov2", "siglip", "convnext"])
def test_a_folder_of_transformers_is_a_tower(few, tmp_path, kind):
    import torch
    import transformers

    torch.manual_seed(0)
    sizes = {"hidden_size": 24, "num_hidden_layers": 8, "num_attention_heads": 2, "image_size": 64, "patch_size": 16}
    if kind == "dinov2":
        model = transformers.Dinov2Model(transformers.Dinov2Config(**sizes))
    elif kind == "siglip":
        text = {**sizes, "vocab_size": 50, "max_position_embeddings": 8, "intermediate_size": 32}
        text = {key: value for key, value in text.items() if key not in ("image_size", "patch_size")}
        vision = {**sizes, "intermediate_size": 32}
        model = transformers.SiglipModel(transformers.SiglipConfig(text_config=text, vision_config=vision))
    else:
        model = transformers.ConvNextModel(transformers.ConvNextConfig(hidden_sizes=[8, 16, 24, 32], depths=[1] * 4))
    folder = tmp_path / "model"
    model.save_pretrained(folder)
    config = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3, "size": {"height": 64, "width": 64}}
    (folder / "preprocessor_config.json").write_text(json.dumps(config))
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    tower, _ = built(f"hf:{folder}", few, tmp_path)
    assert (tower.size, tower.mean, tower.licence) == (64, (0.5,) * 3, "apache-2.0")
    assert len(tower.poolings) >= 4
    picture = phantoms(1, 64)[0]
    vision = getattr(model, "vision_model", model).eval()
    with torch.inference_mode():
        last = vision(pixel_values=torch.from_numpy(tower.taken(picture)))
    if kind == "siglip":
        expected = last.pooler_output
    elif kind == "dinov2":
        expected = torch.cat([last.last_hidden_state[:, 0], last.last_hidden_state[:, 1:].mean(1)], 1)
    else:
        expected = last.last_hidden_state.mean((2, 3))
    given = tower.runner().pooled(picture)[-expected.shape[1] :]
    np.testing.assert_allclose(given, expected[0].numpy(), atol=1e-3)


def test_a_model_of_the_hub_brings_no_code_and_is_not_fetched(tmp_path):
    with pytest.raises(TrainingError, match=r"is no folder and not in the hub's cache on this machine; docs/encoders"):
        open_tower("hf:nobody/nothing", tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"auto_map": {"AutoModel": "modeling.Mine"}}))
    with pytest.raises(TrainingError, match="needs code of its own, which is never run"):
        open_tower(f"hf:{tmp_path}", tmp_path)


@pytest.mark.slow
def test_a_model_of_open_clip_is_a_tower(open_clip, few, tmp_path):
    import torch
    from safetensors.torch import save_file

    folder = tmp_path / "clip"
    folder.mkdir()
    settings = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 64, "layers": 8, "width": 32, "head_width": 16, "patch_size": 16},
        "text_cfg": {"context_length": 8, "vocab_size": 64, "width": 16, "heads": 2, "layers": 1},
    }
    normal = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": settings, "preprocess_cfg": normal}))
    torch.manual_seed(0)
    model = open_clip.CLIP(**settings).eval()
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    tower, _ = built(f"open_clip:{folder}", few, tmp_path)
    assert (tower.size, tower.mean, tower.std) == (64, (0.5,) * 3, (0.25,) * 3)
    picture = phantoms(1, 64)[0]
    with torch.inference_mode():
        expected = model.encode_image(torch.from_numpy(tower.taken(picture)))[0].numpy()
    np.testing.assert_allclose(tower.runner().pooled(picture)[-16:], expected, atol=1e-4)
    with pytest.raises(TrainingError, match="is no folder and not in the hub's cache"):
        open_tower("open_clip:ViT-B-32", tmp_path)
