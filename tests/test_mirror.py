"""Sentences for mirrored images: words that change, words that stay, and sentences that have no mirrored form."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindground.text import flip_doubts, flip_expression, flips_safely

H, V = "horizontal", "vertical"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("the left man", "the right man"),
        ("Leftmost person, RIGHT side", "Rightmost person, LEFT side"),
        ("left-hand car of the right two", "right-hand car of the left two"),
        ("upper-left, lower_right", "upper-right, lower_left"),
        ("the upperleft tank", "the upperright tank"),
        ("the ship to the left of the pier", "the ship to the right of the pier"),
        ("facing left", "facing right"),
        ("his left hand", "his right hand"),
        ("second from the left", "second from the right"),
        ("2nd plane from left to right", "2nd plane from right to left"),
        ("the third column from the right", "the third column from the left"),
        ("the eastern ship", "the western ship"),
        ("the EASTERNMOST ship, westward", "the WESTERNMOST ship, eastward"),
        ("north-east of the tank", "north-west of the tank"),
        ("the Northeastern pier, southwestward", "the Northwestern pier, southeastward"),
        ("southeasternmost", "southwesternmost"),
        ("the south west corner", "the south east corner"),
        ("NE of the SW runway", "NW of the SE runway"),
        ("the nw corner", "the ne corner"),
        ("NNE", "NNW"),
        ("at 3 o'clock", "at 9 o'clock"),
        ("the boat at Two o’clock", "the boat at Ten o’clock"),
        ("12 o'clock", "12 o'clock"),
        ("six o'clock", "six o'clock"),
        ("turning clockwise", "turning counterclockwise"),
        ("左边的飞机", "右边的飞机"),
        ("左上角的船", "右上角的船"),
        ("港口东部的船", "港口西部的船"),
        ("最西边的油罐", "最东边的油罐"),
        ("东南角", "西南角"),
        ("西北方向的桥", "东北方向的桥"),
        ("三点钟方向的船", "九点钟方向的船"),
        ("10点方向", "2点方向"),
        ("两点钟", "十点钟"),
        ("顺时针", "逆时针"),
        ("左起第二个", "右起第二个"),
        ("湖东岸", "湖西岸"),
    ],
)
def test_left_to_right(before: str, after: str) -> None:
    assert flip_expression(before) == after and flip_expression(after) == before
    assert flips_safely(before), flip_doubts(before)
    assert flips_safely(after), flip_doubts(after)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("Topmost ship", "Bottommost ship"),
        ("upper left", "lower left"),
        ("the topleft and the lowerright", "the bottomleft and the upperright"),
        ("the uppermost one", "the lowermost one"),
        ("the one above the bridge", "the one below the bridge"),
        ("pointing Upwards", "pointing Downwards"),
        ("third row from the top", "third row from the bottom"),
        ("the northern ship", "the southern ship"),
        ("north-east of the tank", "south-east of the tank"),
        ("SOUTHWESTWARD", "NORTHWESTWARD"),
        ("northernmost", "southernmost"),
        ("SE of it", "NE of it"),
        ("at 1 o'clock", "at 5 o'clock"),
        ("at eleven o'clock", "at seven o'clock"),
        ("3 o'clock", "3 o'clock"),
        ("clockwise", "counterclockwise"),
        ("左上方的船", "左下方的船"),
        ("左上角", "左下角"),
        ("最上面的船", "最下面的船"),
        ("底部", "顶部"),
        ("东北角", "东南角"),
        ("最南端", "最北端"),
        ("一点钟方向", "五点钟方向"),
    ],
)
def test_top_to_bottom(before: str, after: str) -> None:
    assert flip_expression(before, V) == after and flip_expression(after, V) == before
    assert flips_safely(before, V), flip_doubts(before, V)
    assert flips_safely(after, V), flip_doubts(after, V)


@pytest.mark.parametrize(
    "text",
    [
        *("bright upright piano copyright", "the leftovers", "cleft", "rightly righteous rights", "a feast at Easter"),
        *("Westminster", "Eastman", "a northrop plane", "Norwich", "the wild west", "south korean flag", "knowledge"),
        *("the Southwest Airlines plane", "western saddle", "a right angle", "stopped flower topping", "topology"),
        *("laptop", "topical lowered bottomless", "the harbour port", "a number of ships", "2 ships", "12 white cars"),
        *("the largest ship", "the second largest ship", "a forest", "the T-shaped pier of both", "an easterner"),
        *("房东的西瓜", "东西", "广东的南瓜", "北京", "飞机的左右", "大约三米左右", "东方航空的飞机", "河南", "西餐厅"),
        *("a seven clocked", "ne", "see the sea", "new", "the TV", "", "停车场", "a fortnight"),
    ],
)
def test_words_that_only_look_like_places_stay(text: str) -> None:
    for axis in (H, V):
        assert flip_expression(text, axis) == text
    assert flips_safely(text), flip_doubts(text)
    if "T-shaped" not in text and "左右" not in text:
        assert flips_safely(text, V), flip_doubts(text, V)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "player 23",
            "number 7 on his shirt",
            "the bus that says hello",
            "runway 27",
            "#4",
            'the sign "STOP"',
            "a380",
        ),
        *(
            "the second ship",
            "3rd boy",
            "the last car",
            "the clock showing 3 o'clock",
            "at 15 o'clock",
            "10:30 o'clock",
        ),
        *(
            "the starboard engine",
            "on the port side",
            "north face jacket",
            "N.E. corner",
            "west park",
            "the middle east",
        ),
        *("机身编号为7的飞机", "3号门", "第二个", "东门", "八十点方向"),
    ],
)
def test_what_no_mirror_can_say(text: str) -> None:
    assert not flips_safely(text, H) and not flips_safely(text, V)
    assert all(": " in doubt for doubt in flip_doubts(text))


@pytest.mark.parametrize(
    ("text", "axis", "safe"),
    [
        *(("the second column", H, False), ("the second column", V, True), ("the second column on the left", H, True)),
        *(("third row", H, True), ("third row", V, False), ("third row on the left", V, False)),
        *(
            ("第二列", H, False),
            ("第二列", V, True),
            ("第三排", H, True),
            ("第三排", V, False),
            ("从上往下第三排", V, True),
        ),
        *(("row two", H, True), ("row two", V, False), ("column two", H, False), ("second from the front", H, True)),
        *(
            ("second car from the left in the third row", H, True),
            ("second car from the left in the third row", V, False),
        ),
        *(
            ("S-shaped pier", H, False),
            ("S-shaped pier", V, False),
            ("T-shaped pier", H, True),
            ("t shaped pier", V, False),
        ),
        *(("E-shaped pier", V, True), ("E-shaped pier", H, False), ("star shaped", H, True), ("L形码头", H, False)),
        *(("man right behind the car", H, False), ("man on the right behind the car", H, True)),
        *(
            ("bag left behind", H, False),
            ("his left hand", V, False),
            ("left-hand side", V, True),
            ("left wing", V, False),
        ),
        *(("to the man's left", V, False), ("front left wheel", V, False), ("turning left", V, False)),
        *(("under the bridge", H, True), ("under the bridge", V, False), ("on top of the car", V, False)),
        *(("the E corner", H, False), ("the E corner", V, True), ("the N side", V, False), ("the N side", H, True)),
        *(("树下", V, False), ("树下", H, True), ("左手", V, False), ("white tank top", V, False)),
    ],
)
def test_what_one_mirror_changes(text: str, axis: str, safe: bool) -> None:
    assert flips_safely(text, axis) == safe, flip_doubts(text, axis)


def test_sentences_of_the_sets_that_we_make_can_all_be_mirrored() -> None:
    from mindground.data.make.expressions import ORDINALS, PHRASES

    places = {
        "nth": ("left", "right", "top", "bottom"),
        "place": ("upper left", "lower middle", "middle right", "center"),
    }
    for kind, phrases in PHRASES.items():
        for phrase in phrases:
            for place in places.get(kind, ("",)):
                text = phrase.format(c="large vehicle", p=place, n=ORDINALS[1], a="storage tank")
                for axis in (H, V):
                    assert flip_expression(flip_expression(text, axis), axis) == text
                    assert flips_safely(text, axis), flip_doubts(text, axis)


def test_the_british_spelling_comes_back_as_the_other() -> None:
    assert flip_expression("anti-clockwise") == "clockwise" and flips_safely("anticlockwise")
    assert flip_expression(flip_expression("Counter-clockwise")) == "Counterclockwise"


def test_released_code_exchanges_letters_anywhere_and_no_other_words() -> None:
    assert flip_expression("bright eastern Left", substrings=True) == "bleft eastern Left"
    assert flip_expression("topple at 3 o'clock", V, substrings=True) == "bottomple at 3 o'clock"


def test_unknown_axis() -> None:
    for ask in (flip_expression, flips_safely, flip_doubts):
        with pytest.raises(ValueError, match="diagonal"):
            ask("left", "diagonal")


WORDS = [
    *(
        "left",
        "Right",
        "bright",
        "top",
        "ship",
        "leftmost",
        ",",
        "🛩",
        "左",
        "右",
        "east",
        "Northwestern",
        "south-east",
        "SW",
    ),
    *(
        "3 o'clock",
        "eleven o'clock",
        "clockwise",
        "upper",
        "below",
        "second",
        "from the",
        "column",
        "西北角",
        "东西",
        "wild",
    ),
    *(
        "two o’clock",
        "最南边",
        "下方",
        "airlines",
        "顺时针",
        "十一点钟",
        "right angle",
        "nw corner",
        "upwards",
        "Westminster",
    ),
]


@given(st.lists(st.sampled_from(WORDS), max_size=8), st.sampled_from([H, V]))
@settings(max_examples=300, deadline=None)
def test_flipping_twice_changes_nothing(words: list[str], axis: str) -> None:
    text = " ".join(words)
    once = flip_expression(text, axis)
    assert flip_expression(once, axis) == text
    # Both mirrors together turn the image by half a turn, in either order.
    assert flip_expression(once, V if axis == H else H) == flip_expression(
        flip_expression(text, V if axis == H else H), axis
    )


@given(st.text(), st.sampled_from([H, V]))
@settings(max_examples=200, deadline=None)
def test_any_text_can_be_mirrored(text: str, axis: str) -> None:
    assert isinstance(flip_expression(text, axis), str) and isinstance(flips_safely(text, axis), bool)
