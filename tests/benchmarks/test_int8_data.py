"""Decisions and scores of the INT8 benchmark on outputs made by hand, and its samples."""

import numpy as np
import pytest
from PIL import Image

from benchmarks.int8_data import DATA, find_faces, photos_of
from benchmarks.int8_feeds import make_samples, read_samples, write_samples
from benchmarks.int8_sentences import FRAMES, TOPICS, fit_probe, make_sentences
from benchmarks.int8_tasks import SPACE, TASKS, label_regions, match_boxes, sqnr_db
from benchmarks.models import mtcnn
from benchmarks.samples import draw_page, draw_varied_word
from hwc.errors import UsageError


def decide(task: str, *outputs, feeds=None, constant=None):
    return TASKS[task].decide([np.asarray(out, np.float32) for out in outputs], feeds or {}, constant)


def test_ctc_drops_repeats_blanks_and_outer_spaces():
    steps = [SPACE, 0, 5, 5, 0, 5, SPACE, 7, 0, SPACE]
    scores = np.eye(SPACE + 1)[steps][None]
    read = decide("text", scores)
    assert read.tolist() == [5, 5, SPACE, 7]
    assert TASKS["text"].score(read, np.array([5, 5, SPACE, 7])) == 1
    assert TASKS["text"].score(read, np.array([5, 5, SPACE])) == 0
    assert decide("text", np.eye(3)[[0, 0]][None]).tolist() == []


def test_regions_touch_at_sides_only():
    mask = np.array([[1, 1, 0, 0], [0, 1, 0, 1], [1, 0, 1, 1]], bool)
    labels = label_regions(mask)
    assert len(set(labels[mask])) == 3
    assert labels[0, 0] == labels[1, 1] != labels[2, 0]
    assert not labels[~mask].any()


def test_a_snake_is_one_region():
    mask = np.zeros((9, 9), bool)
    mask[::2] = True
    mask[1::4, -1] = mask[3::4, 0] = True
    assert len(set(label_regions(mask)[mask])) == 1


@pytest.mark.parametrize(
    ("found", "score"),
    [
        ([[0, 0, 10, 10], [20, 0, 30, 10]], 1.0),
        ([[0, 0, 10, 10]], 2 / 3),
        ([[0, 0, 10, 10], [0, 0, 10, 9], [20, 0, 30, 10]], 4 / 5),
        ([[4, 4, 14, 14]], 0.0),
        ([], 0.0),
    ],
)
def test_boxes_are_matched_once(found, score):
    known = np.array([[0, 0, 10, 10], [20, 0, 30, 10]], np.float32)
    assert match_boxes(np.array(found, np.float32).reshape(-1, 4), known) == pytest.approx(score)


def test_no_boxes_where_none_are_is_right():
    empty = np.zeros((0, 4), np.float32)
    assert match_boxes(empty, empty) == 1.0


def test_boxes_of_both_kinds_of_maps():
    chance = np.zeros((1, 1, 40, 60), np.float32)
    chance[0, 0, 10:20, 20:50] = 0.9
    chance[0, 0, 30:33, 0:2] = 0.9  # too small
    (box,) = decide("boxes", chance)
    by = 1.6 * 300 / 80
    assert box == pytest.approx([20 - by, 10 - by, 50 + by, 20 + by])
    text = np.zeros((1, 40, 60, 2), np.float32)
    text[0, 10:20, 20:50, 0] = 0.9
    text[0, 30:40, 0:10, 1] = 0.9  # a gap without a character
    (box,) = decide("craft", text)
    by = int(np.sqrt(300 * 10 / 300) * 2) / 2
    assert box == pytest.approx([2 * (20 - by), 2 * (10 - by), 2 * (50 + by), 2 * (20 + by)])


def test_the_other_decisions():
    assert decide("class", [[1, 3, 2]]) == 1
    assert decide("face", np.zeros((1, 4)), np.zeros((1, 10)), [[0.4, 0.6]])
    pitch = TASKS["pitch"]
    assert pitch.score(np.array(100.0), np.array(149.0)) == 1
    assert pitch.score(np.array(100.0), np.array(151.0)) == 0
    mask = TASKS["mask"]
    assert mask.score(np.array([1, 1, 0], bool), np.array([1, 0, 0], bool)) == pytest.approx(2 / 3)
    words = np.zeros((1, 3, 2))
    words[0] = [[1, 0], [3, 0], [9, 9]]
    probe = np.array([[0, 1, 0], [1, 0, -1.5]], np.float32)
    feeds = {"attention_mask": np.array([[1, 1, 0]])}
    # The mean over the two unmasked words is (2, 0): 0 against 2 - 1.5.
    assert decide("probe", words, feeds=feeds, constant=probe) == 1


def test_sqnr_is_a_mean_over_outputs_and_sees_nan():
    a = [np.ones(4, np.float32), np.ones(4, np.float32), np.ones(4, np.int64)]
    b = [np.full(4, 1.1, np.float32), np.ones(4, np.float32), np.zeros(4, np.int64)]
    assert sqnr_db(a, b) == pytest.approx((20 + 120) / 2, abs=1e-4)
    b[0] = np.array([1, 1, np.nan, 1], np.float32)
    assert sqnr_db(a, b) == 0.0


def test_samples_survive_the_file(tmp_path):
    rows = [({"x": np.full((1, 2), k, np.float32), "n": np.array([k])}, np.arange(k)) for k in range(3)]
    samples = make_samples("text", rows, np.eye(2))
    write_samples(tmp_path / "s.npz", samples)
    read = read_samples(tmp_path / "s.npz")
    assert (read.task, len(read)) == ("text", 3)
    assert [truth.tolist() for truth in read.truths] == [[], [0], [0, 1]]
    assert [feeds["n"].tolist() for feeds in read] == [[0], [1], [2]]
    np.testing.assert_array_equal(read.constant, np.eye(2))


def test_a_folder_of_photos_must_be_one(tmp_path):
    for number in range(350):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{number:04}.jpg")
    assert photos_of(tmp_path)[17] == (tmp_path / "0017.jpg", 17)
    Image.new("RGB", (8, 8)).save(tmp_path / "cat.jpg")
    with pytest.raises(UsageError, match="cannot calibrate"):
        photos_of(tmp_path)
    with pytest.raises(UsageError, match="cannot calibrate"):
        photos_of(tmp_path / "none")


def test_sets_of_faces_share_no_crop(monkeypatch):
    crops = np.random.default_rng(0).normal(0, 1, (200, 3, 24, 24)).astype(np.float32)
    monkeypatch.setattr(mtcnn, "prepare_faces", lambda side: (crops, np.repeat([1, 0], 100)))
    data = find_faces(24)(None, None)
    seen = {feeds["x"].tobytes() for feeds in data.calibration}
    judged = [feeds["x"].tobytes() for feeds in data.validation]
    assert len(seen) == 60 and len(judged) == 280
    assert not seen & set(judged)
    assert sum(bool(truth) for truth in data.validation.truths) == 140


def test_drawings_differ_by_seed_and_stay_the_same():
    a, b = draw_varied_word("Word", 48, 192, 1), draw_varied_word("Word", 48, 192, 2)
    assert a.shape == (48, 192)
    assert (a != b).any()
    np.testing.assert_array_equal(a, draw_varied_word("Word", 48, 192, 1))


def test_words_on_a_page_lie_in_their_boxes():
    page, boxes = draw_page(Image.new("RGB", (64, 64), (128, 128, 128)), 256, 3)
    outside = np.ones((256, 256), bool)
    for left, top, right, bottom in boxes.astype(int):
        assert (page[top:bottom, left:right] != 128).any()
        outside[top : bottom + 1, left : right + 1] = False
    assert (page[outside] == 128).all()


def test_the_majority_names_the_topic():
    lists = [set(words.split()) for words in TOPICS.values()]
    for text, topic in make_sentences(50, seed=1):
        counts = [sum(word in words for word in text.split()) for words in lists]
        assert int(np.argmax(counts)) == topic
    assert all(frame.count("{}") == 6 for frame in FRAMES)


def test_the_probe_finds_what_is_linear():
    rng = np.random.default_rng(0)
    topics = rng.integers(0, len(TOPICS), 200)
    vectors = np.eye(len(TOPICS))[topics] + rng.normal(0, 0.05, (200, len(TOPICS))) + 3
    probe = fit_probe(vectors, topics)
    named = (vectors @ probe[:, :-1].T + probe[:, -1]).argmax(1)
    assert (named == topics).all()


def test_every_network_with_data_is_in_the_suite():
    from benchmarks.models import find_entry

    assert all(find_entry(name).name == name for name in DATA)
