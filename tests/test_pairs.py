"""Pairs and Task: what holds of every data set."""

import numpy as np
import pytest

from minclip.config import MinclipError
from minclip.data import Pairs, Task


def pairs(n=3, counts=(2, 1, 3)):
    captions = [[f"image {i} caption {j}" for j in range(count)] for i, count in enumerate(counts)]
    return Pairs(np.zeros((n, 3, 4, 4), dtype=np.uint8), captions, [str(i) for i in range(len(captions))])


def test_length_is_the_number_of_images():
    assert len(pairs()) == 3


def test_texts_are_all_captions_image_by_image():
    assert pairs().texts == [
        "image 0 caption 0",
        "image 0 caption 1",
        "image 1 caption 0",
        "image 2 caption 0",
        "image 2 caption 1",
        "image 2 caption 2",
    ]


def test_text_to_image_says_which_image_a_text_belongs_to():
    owner = pairs().text_to_image
    assert owner.tolist() == [0, 0, 1, 2, 2, 2] and owner.dtype == np.int64


def test_numbers_that_differ_are_an_error_that_tells_them():
    with pytest.raises(MinclipError, match="2 images, 3 lists of captions and 3 names"):
        pairs(n=2)


def test_names_are_counted_too():
    with pytest.raises(MinclipError, match="1 names"):
        Pairs(np.zeros((2, 3, 4, 4), dtype=np.uint8), [["a"], ["b"]], ["a"])


def test_no_images_are_an_error():
    with pytest.raises(MinclipError, match="at least one image"):
        pairs(n=0, counts=())


def test_an_image_without_captions_is_an_error_that_names_it():
    with pytest.raises(MinclipError, match="image 1 has no caption"):
        pairs(counts=(1, 0, 2))


def test_no_tasks_and_no_notes_by_default():
    assert pairs().tasks == {} and pairs().notes == ()


def test_chance_of_a_task_is_one_over_its_classes():
    assert Task(("a", "b", "c", "d"), ("{}",), np.array([0]), np.array([1])).chance == 0.25
