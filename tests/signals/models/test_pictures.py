import json

import numpy as np
import onnx
import pytest
from PIL import Image

from signals.documents.images import probe_image
from signals.models.pictures import ADDED, AddedModel, PictureModels, package
from signals.tasks import TASKS
from tests.support import SHARED
from tests.support.pictures import EYE, FORMATS, by_colour, encoded

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")

CORPUS = SHARED / "data" / "images_safety"
TASK = TASKS["image_threat"]
ARMS, DRUGS, SAFE, ADULT = (TASK.labels.index(label) for label in ("arms", "drugs", "safe", "adult"))


def coloured(colour):
    return encoded(colour=colour)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    found = tmp_path_factory.mktemp("model")
    package(found, TASK.labels, task="image_threat", transform_id="0123456789abcdef")
    return found


@pytest.fixture(scope="module")
def model(folder):
    return PictureModels(folder, TASK.labels)


@pytest.mark.parametrize(("mode", "kind"), FORMATS)
def test_what_can_be_decoded_can_be_scored(model, mode, kind):
    assert model.scores([encoded(mode, kind)]).sum() == pytest.approx(1.0)


def test_the_packaged_model_is_two_files_of_data(folder):
    assert sorted(path.name for path in folder.iterdir()) == ["model.json", "open_nsfw.onnx"]
    assert json.loads((folder / "model.json").read_text(encoding="utf-8")) == {
        "family": "pictures",
        "labels": list(TASK.labels),
        "task": "image_threat",
        "transform_id": "0123456789abcdef",
    }


def test_pictures_are_scored_the_same_alone_and_together(model):
    rng = np.random.default_rng(0)
    noise = [Image.fromarray(rng.integers(0, 255, (40, 60, 3), dtype=np.uint8)) for _ in range(3)]
    bodies = [encoded(image=image) for image in noise]
    together = model.scores(bodies)
    assert np.allclose(together.sum(axis=1), 1.0)
    assert ((together >= 0) & (together <= 1)).all()
    assert np.concatenate([model.scores([body]) for body in bodies]).tobytes() == together.tobytes()
    assert len({row.tobytes() for row in together}) == 3


def test_no_pictures_have_no_scores(model):
    assert model.scores([]).shape == (0, len(TASK.labels))


def test_real_benign_pictures_are_decoded_and_safe(model):
    if not CORPUS.exists():
        pytest.skip(f"{CORPUS} is not here")
    bodies = [path.read_bytes() for path in sorted((CORPUS / "benign").iterdir())[::4]]
    assert all(probe_image(body) for body in bodies)
    safe = model.scores(bodies).argmax(axis=1) == SAFE
    assert safe.mean() >= 0.9


def test_an_added_model_answers_beside_the_packaged_one_and_safe_is_what_neither_sees(model, tmp_path):
    added = by_colour(tmp_path)
    (files := tmp_path / "files").mkdir()
    package(files, TASK.labels, added)
    bodies = [coloured(colour) for colour in ("red", "lime", "blue", "black")]
    both, alone = PictureModels(files, TASK.labels).scores(bodies), model.scores(bodies)
    assert [TASK.labels[column] for column in both.argmax(axis=1)] == ["arms", "safe", "drugs", "safe"]
    assert both[:, ADULT].tolist() == alone[:, ADULT].tolist()
    assert both[0, [ARMS, SAFE]].tolist() == pytest.approx([1.0, 0.0])
    assert both[1, SAFE] == alone[1, SAFE]


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_a_model_is_given_pictures_in_its_layout(tmp_path, layout):
    added = AddedModel(by_colour(tmp_path, layout=layout), TASK.labels)
    added.check()
    assert added.scores([coloured("blue")])[0, DRUGS] == pytest.approx(1.0)


def test_outputs_of_one_meaning_add_up_and_colours_are_scaled_as_described(tmp_path):
    both = by_colour(tmp_path, labels={"pistol": "arms", "rifle": "arms", "street": "safe"})
    scores = AddedModel(both, TASK.labels).scores([coloured((51, 102, 0)), coloured((255, 255, 0))])
    assert scores[:, ARMS].tolist() == pytest.approx([0.6, 1.0])
    scaled = by_colour(tmp_path, mean=[0.5, 0, 0], std=[0.5, 1, 1], outputs="logits")
    (row,) = AddedModel(scaled, TASK.labels).scores([coloured("red")])
    assert row[[ARMS, SAFE]].tolist() == pytest.approx([np.e / (np.e + 2), 1 / (np.e + 2)])


@pytest.mark.parametrize(
    ("weights", "described", "why"),
    [
        (EYE, {"labels": {"a": "cats", "b": "safe", "c": "arms"}}, "cats"),
        (EYE, {"labels": {"a": "safe", "b": "arms"}}, "2 finite numbers"),
        (EYE * 9, {}, "no probabilities"),
        (EYE * np.nan, {}, "3 finite numbers"),
        (EYE, {"size": [9, 12]}, "does not run"),
        (EYE, {"size": [8, 100_000]}, "size.1"),
        (EYE, {"std": [0, 1, 1]}, "std.0"),
        (EYE, {"thresholds": 1}, "thresholds"),
    ],
)
def test_a_model_that_is_not_as_described_is_refused_with_the_reason(tmp_path, weights, described, why):
    with pytest.raises(ValueError, match=why) as refused:
        AddedModel(by_colour(tmp_path, weights, **described), TASK.labels).check()
    assert "\n" not in str(refused.value)


def test_what_is_no_model_of_one_file_is_refused(tmp_path):
    path = by_colour(tmp_path)
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, size_threshold=0, location="weights")
    with pytest.raises(ValueError, match="one file"):
        AddedModel(path, TASK.labels).check()
    path.write_bytes(b"no model")
    with pytest.raises(ValueError, match="does not run"):
        AddedModel(path, TASK.labels).check()
    path.with_suffix(".json").unlink()
    with pytest.raises(ValueError, match="describes the model"):
        AddedModel(path, TASK.labels).check()
    with pytest.raises(ValueError, match="no file"):
        AddedModel(tmp_path / "nothing.onnx", TASK.labels).check()


def test_where_the_added_model_fails_there_is_no_answer_at_all(tmp_path):
    added = by_colour(tmp_path)
    (files := tmp_path / "files").mkdir()
    package(files, TASK.labels, added)
    by_colour(tmp_path, EYE * np.nan).rename(files / ADDED)
    with pytest.raises(ValueError, match="finite"):
        PictureModels(files, TASK.labels).scores([coloured("red")])
