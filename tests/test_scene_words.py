"""Which words compare over a whole scene, and which concern neighbours."""

from __future__ import annotations

import pytest

from mindground.text.scene_words import scene_words


@pytest.mark.parametrize(
    ("text", "image", "compass"),
    [
        ("the northernmost ship", (0, 0), (0, -1)),
        ("the left-most ship of the harbour", (-1, 0), (0, 0)),
        ("the rightmost plane", (1, 0), (0, 0)),
        ("the ship in the upper left corner of the image", (-1, -1), (0, 0)),
        ("a tank at the top", (0, -1), (0, 0)),
        ("the south-eastern hangar", (0, 0), (1, 1)),
        ("the southwesternmost house", (0, 0), (-1, 1)),
        ("the ship on the right side", (1, 0), (0, 0)),
        ("最左边的船", (-1, 0), (0, 0)),
        ("最北的油罐", (0, 0), (0, -1)),
        ("左上角的飞机", (-1, -1), (0, 0)),
    ],
)
def test_sides_of_the_scene(text: str, image: tuple[int, int], compass: tuple[int, int]) -> None:
    words = scene_words(text)
    assert words and words.image == image and words.compass == compass


@pytest.mark.parametrize(
    "text",
    [
        "the ship left of the pier",
        "the ship to the left of the pier",
        "the house north of the road",
        "the tank on the right side of the road",
        "the car on top of the building",
        "the plane right behind the truck",
        "the ship facing left",
        "a vehicle driving to the right",
        "the north-south runway",
        "the ship next to the pier",
        "the bright leftover",
        "a topology of flowers",
        "the ship larger than the tank",
        "the ship in the middle of the harbour",
        "房子左边的船",
        "the ship",
    ],
)
def test_neighbours(text: str) -> None:
    assert not scene_words(text)


def test_sizes_centres_ranks_and_all() -> None:
    assert scene_words("the largest ship").size == 1 and scene_words("最小的船").size == -1
    assert scene_words("the ship in the middle").centre
    assert scene_words("all ships in the north").several
    ranked = scene_words("the second ship from the left, the leftmost but one")
    assert not ranked and "second" in ranked.doubt
