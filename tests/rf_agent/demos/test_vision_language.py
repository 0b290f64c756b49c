"""Readers of captions and questions, their prompts, and scene images written in the same layouts."""

import json

import numpy as np
import pytest
from PIL import Image
from vl_files import change, write, write_vl_files

from rf_agent.config import ImageConfig
from rf_agent.demos.files import DemoError
from rf_agent.demos.scene_images import SceneImageConfig, collect_scene_images
from rf_agent.demos.vision_language import PROMPTS, CaptionSet, ImageReader, QuestionSet
from rf_agent.demos.vision_language.export import export_scene_images
from rf_agent.progress import Silent

SMALL = ImageConfig(size=16)
REFERENCE = PROMPTS["reference"]


class Interrupting(Silent):
    def update(self, *_):
        raise KeyboardInterrupt


@pytest.fixture
def files(tmp_path):
    return write_vl_files(tmp_path)


def captions(files):
    return CaptionSet(files["captions"], files["images"])


def questions(files):
    return QuestionSet(files["questions"], files["annotations"], files["images"])


def test_prompts_are_those_of_the_reference():
    assert REFERENCE.about_image("a dog") == ("A photo of", " a dog")
    assert REFERENCE.about_question("what is it?", "a dog") == ("Question:what is it? Short answer:", "a dog")
    assert PROMPTS["pretrain"].about_image("a dog") == ("", "a dog")
    assert PROMPTS["pretrain"].about_question("what?", "dog") == ("Question: what? Short answer:", " dog")
    assert REFERENCE.about_question("{answer}?").given == "Question:{answer}? Short answer:"


def test_captions(files):
    data = captions(files)
    assert len(data) == 8 and data.ids == list(range(1, 9)) and data.missing == 0
    assert data.captions[0] == ["a green wall.", "the wall is green"]
    drawn = {data.pair(0, np.random.default_rng(seed), REFERENCE).wanted for seed in range(20)}
    assert drawn == {" a green wall.", " the wall is green"}
    assert data.training_pair(0, np.random.default_rng(1), REFERENCE).given == ""
    assert data.prompt(0, REFERENCE) == "A photo of"


def test_questions(files):
    data = questions(files)
    assert len(data) == 8 and data.questions[0][:2] == (100, "What color is it?")
    assert data.questions[0].answers == ("green",) * 9 + ("grey",) and data.questions[0].kind == "other"
    drawn = [data.pair(0, np.random.default_rng(seed), REFERENCE).wanted for seed in range(60)]
    assert set(drawn) == {"green", "grey"} and drawn.count("green") > drawn.count("grey")
    assert data.paths[0].name == "COCO_toy_000000000001.jpg"


def test_images_are_read_at_the_policys_size(files):
    data = captions(files)
    image = ImageReader(data.paths, SMALL).read(0)
    assert image.shape == (16, 16, 3) and image.dtype == np.uint8
    assert image.mean(axis=(0, 1)) == pytest.approx([30, 220, 30], abs=8)
    Image.new("L", (5, 5), 77).save(data.paths[0])  # gray ones become RGB
    assert (ImageReader(data.paths, SMALL).read(0) == 77).all()


def test_single_broken_images_are_counted_and_all_of_them_refused(files):
    data = captions(files)
    whole = data.paths[1].read_bytes()
    data.paths[0].write_bytes(b"no image")
    data.paths[1].write_bytes(whole[: len(whole) // 2])
    reader = ImageReader(data.paths, SMALL)
    assert reader.read(0) is None and reader.read(1) is None and reader.read(0) is None
    assert reader.read(2) is not None and reader.broken == set(data.paths[:2])
    for path in data.paths:
        path.write_bytes(b"no image")
    with pytest.raises(DemoError, match=r"none of the 8 images can be decoded.*00008\.jpg"):
        [reader.read(index) for index in range(8)]


def test_missing_images_are_left_out(files):
    (files["images"] / "COCO_toy_000000000003.jpg").unlink()
    assert captions(files).missing == 1 and captions(files).ids == [1, 2, 4, 5, 6, 7, 8]
    assert questions(files).missing == 1 and len(questions(files)) == 7


def test_an_image_without_captions_is_no_caption(files):
    change(files["captions"], "annotations", slice(0, 2), [])
    assert captions(files).ids == list(range(2, 9)) and captions(files).missing == 0


@pytest.mark.parametrize("kind", ["captions", "questions"])
def test_no_images_at_all_are_refused(files, tmp_path, kind):
    read = captions if kind == "captions" else questions
    (tmp_path / "empty").mkdir()
    with pytest.raises(DemoError, match=f"empty holds none of the images that .*{files[kind].name}"):
        read(files | {"images": tmp_path / "empty"})
    with pytest.raises(FileNotFoundError, match="is no folder"):
        read(files | {"images": tmp_path / "nowhere"})
    with pytest.raises(FileNotFoundError, match="nothing.json is no file: give"):
        read(files | {kind: tmp_path / "nothing.json"})


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("captions", "{", "is not valid JSON"),
        ("captions", "[1]", "has no list 'images': give captions in COCO's layout"),
        ("captions", '{"images": []}', "is empty, its list 'images' has no entry"),
        ("captions", '{"images": [{"id": "1", "file_name": "a.jpg"}]}', "entry 0 of 'images' has no 'id' of type int"),
        ("questions", '{"annotations": []}', "has no list 'questions': give questions in VQAv2's layout"),
        ("annotations", '{"questions": []}', "has no list 'annotations': give answers in VQAv2's layout"),
        ("annotations", '{"annotations": [7]}', "entry 0 of 'annotations' has no 'question_id'"),
    ],
)
def test_other_files_are_refused(files, file, content, said):
    files[file].write_text(content)
    with pytest.raises(DemoError, match=said) as error:
        (captions if file == "captions" else questions)(files)
    assert str(files[file]) in str(error.value)


def test_annotations_that_do_not_belong_together_are_refused(files):
    change(files["captions"], "images", 0, None)
    with pytest.raises(DemoError, match="a caption is of image 1, which 'images' does not name"):
        captions(files)
    change(files["annotations"], "annotations", 0, None)
    with pytest.raises(DemoError, match="question 100 of .* has no answer in .*annotations.json"):
        questions(files)


@pytest.mark.parametrize(
    ("file", "key", "field", "value"),
    [
        ("captions", "images", "id", 1),
        ("questions", "questions", "question_id", 100),
        ("annotations", "annotations", "question_id", 100),
    ],
)
def test_a_number_stands_for_one_thing(files, file, key, field, value):
    entries = json.loads(files[file].read_text())[key]
    change(files[file], key, 3, entries[3] | {field: value})
    with pytest.raises(DemoError, match=f"entry 3 of '{key}' has the '{field}' {value} of an earlier one") as error:
        captions(files) if file == "captions" else questions(files)
    assert str(files[file]) in str(error.value)


def test_a_question_is_about_one_image(files):
    other = files["images"] / "COCO_other_000000000009.jpg"
    other.write_bytes((files["images"] / "COCO_toy_000000000001.jpg").read_bytes())
    assert len(questions(files)) == 8  # nobody asks about it
    other.rename(other.with_name("COCO_other_000000000002.jpg"))
    with pytest.raises(DemoError, match="several images of number 2, which question 200 is about, COCO_other_0"):
        questions(files)


@pytest.mark.parametrize("answers", [[], [{"answer": " "}], [{"answer": 3}], ["red"]])
def test_a_question_without_answers_is_refused(files, answers):
    entry = {"question_id": 100, "image_id": 1, "answers": answers}
    change(files["annotations"], "annotations", 0, entry)
    with pytest.raises(DemoError, match="question 100 has no answers with text"):
        questions(files)


def test_only_empty_captions_are_refused(files):
    write(files["captions"], images=[{"id": 1, "file_name": "a"}], annotations=[{"image_id": 1, "caption": " "}])
    with pytest.raises(DemoError, match="only empty captions"):
        captions(files)


def test_scene_images_in_both_layouts(tmp_path):
    source = tmp_path / "scenes.hdf5"
    scenes = SceneImageConfig(output=source, env="fake_table:FakeTable-v0", count=40, image_size=32, workers=1)
    collect_scene_images(scenes)
    written = export_scene_images(source, tmp_path / "vl", "rgb_static", "val")
    assert written.questions.name == "v2_OpenEnded_mscoco_val_questions.json"
    pictured = CaptionSet(written.captions, written.images)
    asked = QuestionSet(written.questions, written.annotations, written.images)
    assert len(pictured) == len(asked) == 40 and pictured.missing == asked.missing == 0
    assert pictured.captions[0][0].startswith("a block on the ")
    assert asked.questions[0].answers == (pictured.captions[0][0].split()[-1],) * 10
    image = ImageReader(pictured.paths, ImageConfig(size=32)).read(7)
    import h5py

    with h5py.File(source) as file:
        assert np.abs(image.astype(int) - file["rgb_static"][7]).mean() < 3  # JPEG
    assert len(json.loads(written.annotations.read_text())["annotations"][0]["answers"]) == 10
    # of an export that is cut off nothing says what its images show
    with pytest.raises(KeyboardInterrupt):
        export_scene_images(source, tmp_path / "vl", "rgb_static", "val", Interrupting())
    assert not any(path.exists() for path in written[1:])
    with pytest.raises(ValueError, match="no 'front'"):
        export_scene_images(source, tmp_path / "other", "front", "val")
    with pytest.raises(DemoError, match="letters and digits"):
        export_scene_images(source, tmp_path / "other", "rgb_static", "../val")
    assert not (tmp_path / "other").exists()
