"""Effect of a mirror on the words of a sentence: the tables of `text/mirror.py`, with a reason for every entry.

`REWRITES` are words that a mirror changes and that have a certain replacement. `KEPT` are expressions with the same
words and another meaning. `DOUBTS` are expressions that a mirror changes, or may change, without a replacement:
sentences with one of them, and their images, should not be mirrored. North is the top of an image.

Axes: `horizontal` exchanges left and right, `vertical` top and bottom.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

__all__ = ["AXES", "DOUBTS", "KEPT", "REWRITES", "Doubt", "Rewrite"]

HORIZONTAL: Final = ("horizontal",)
VERTICAL: Final = ("vertical",)
AXES: Final = (*HORIZONTAL, *VERTICAL)
# Borders of a word: digits and underscores end one ("lower_right", "left2").
START: Final = r"(?<![^\W\d_])"
END: Final = r"(?![^\W\d_])"


@dataclass(frozen=True)
class Rewrite:
    """Words that are exchanged.

    Attributes:
        axes: mirrors that change them.
        pattern: finds them.
        turn: (match, axis) -> the replacement.
        reason: meaning of the words.
    """

    axes: tuple[str, ...]
    pattern: re.Pattern[str]
    turn: Callable[[re.Match[str], str], str]
    reason: str


@dataclass(frozen=True)
class Doubt:
    """Words after which a mirrored sentence may be false.

    Attributes:
        axes: mirrors that may make the sentence false.
        pattern: finds them.
        reason: why no replacement is certain.
        whole: search the whole sentence; otherwise only the part that `REWRITES` and `KEPT` do not cover.
    """

    axes: tuple[str, ...]
    pattern: re.Pattern[str]
    reason: str
    whole: bool = False


def in_case_of(model: str, word: str) -> str:
    """`word` in the case of `model`: upper, capitalised or lower."""
    if model.isupper():
        return word.upper()
    return word.capitalize() if model[:1].isupper() else word


def _pairs(*pairs: tuple[str, str]) -> dict[str, str]:
    return {**dict(pairs), **{second: first for first, second in pairs}}


_OPPOSITE: Final = _pairs(
    ("left", "right"), ("top", "bottom"), ("upper", "lower"), ("above", "below"), ("upward", "downward")
) | _pairs(("east", "west"), ("north", "south"), ("左", "右"), ("上", "下"), ("顶", "底"), ("顺", "逆"))
_EAST_WEST: Final = _pairs(("东", "西"), ("E", "W"))
_NORTH_SOUTH: Final = _pairs(("南", "北"), ("N", "S"))
_BY_AXIS: Final = {"horizontal": _EAST_WEST, "vertical": _NORTH_SOUTH}


def _opposite(match: re.Match[str], axis: str) -> str:
    """The match with its first group exchanged."""
    start, end = (place - match.start() for place in match.span(1))
    text, word = match.group(), match.group(1)
    return text[:start] + in_case_of(word, _OPPOSITE[word.lower()]) + text[end:]


def _letters(match: re.Match[str], axis: str) -> str:
    """NE -> NW or SE, letter by letter."""
    pairs = _BY_AXIS[axis]
    turned = "".join(pairs.get(letter.upper(), letter.upper()) for letter in match.group())
    return turned if match.group().isupper() else turned.lower()


# --- clock positions, as hours of 1 to 12 ---

_HOURS: Final = "one two three four five six seven eight nine ten eleven twelve".split()
_CHINESE_HOURS: Final = "一 两 三 四 五 六 七 八 九 十 十一 十二".split()


def _hour(match: re.Match[str], axis: str) -> str:
    """The match with the hour in its first group mirrored: 12 - h, or 6 - h, modulo 12."""
    word = match.group(1)
    names = _CHINESE_HOURS if word in _CHINESE_HOURS else _HOURS
    hour = int(word) if word.isdigit() else names.index(word.lower()) + 1
    turned = ((12 if axis == "horizontal" else 6) - hour) % 12 or 12
    said = str(turned) if word.isdigit() else in_case_of(word, names[turned - 1])
    return said + match.group()[len(word) :]


def _rotation(match: re.Match[str], axis: str) -> str:
    word = match.group()
    return in_case_of(word, "counterclockwise" if word.lower() == "clockwise" else "clockwise")


# --- Chinese: a character means a direction only together with certain others ---


def _single(match: re.Match[str], axis: str) -> str:
    """A single 左 or 右; 左右 (about, both sides) is not changed."""
    return _OPPOSITE[match.group()] if len(match.group()) == 1 else match.group()


def _chinese_compass(match: re.Match[str], axis: str) -> str:
    """东 or 东南; 东西 (things, or from east to west) and longer sequences are not changed."""
    run, pairs = match.group(), _BY_AXIS[axis]
    one_each = len(run) == 2 and (run[0] in _EAST_WEST) != (run[1] in _EAST_WEST)
    return "".join(pairs.get(sign, sign) for sign in run) if len(run) == 1 or one_each else run


_SUFFIX = r"(?:most|hand|handed|hander|side|sided|wards?|y|ies|top|bottom|upper|lower|front|back|rear)?"
_PREFIX = r"(?:upper|lower|top|bottom|mid|middle|cent(?:re|er)|front|back|rear)?"
_TAIL = r"(?:ern|erly)?(?:wards?|most|bound|side|facing)?"
_EDGE = "[部侧边方面端角岸头缘向]"
_TOWARDS = "[最偏朝向往靠正以之]"
_CLOCK = r"o\s?['’`´]?\s?clock"

REWRITES: Final[tuple[Rewrite, ...]] = (
    Rewrite(
        HORIZONTAL,
        re.compile(f"{START}{_PREFIX}(left|right){_SUFFIX}{END}", re.I),
        _opposite,
        "sides; also hands, wings and 'his left': a mirrored man shows the other hand. "
        "'second from the left' becomes 'second from the right', a relation ('left of') that of the other side",
    ),
    Rewrite(
        VERTICAL,
        re.compile(
            f"{START}(?:left|right|mid)?(top|bottom|upper|lower)(?:most|side|left|right)?{END}"
            f"|{START}(?P<relation>above|below){END}|{START}(?P<way>upward|downward)s?{END}",
            re.I,
        ),
        lambda match, axis: _opposite(match, axis) if match.group(1) else _first_word(match),
        "sides and relations along the other direction",
    ),
    Rewrite(
        HORIZONTAL,
        re.compile(f"(?:{START}|(?<=north)|(?<=south))(east|west){_TAIL}{END}", re.I),
        _opposite,
        "compass words, alone and as the second half of north-east, northeastern, northwestward ...",
    ),
    Rewrite(
        VERTICAL,
        re.compile(f"{START}(north|south)(?:east|west)?{_TAIL}{END}", re.I),
        _opposite,
        "compass words, alone and as the first half",
    ),
    Rewrite(
        AXES,
        re.compile(
            f"{START}(?:[NS][EW]|NNE|ENE|ESE|SSE|SSW|WSW|WNW|NNW"
            f"|[ns][ew](?=\\s(?:corner|side|part|end|edge|quadrant|area)s?\\b)){END}"
        ),
        _letters,
        "compass letters; lower-case ones only before a word of position ('se' and 'ne' are words elsewhere)",
    ),
    Rewrite(
        AXES,
        re.compile(rf"(?<![\w:.,])({'|'.join(_HOURS)}|1[0-2]|[1-9])[\s-]*{_CLOCK}{END}", re.I),
        _hour,
        "clock positions: 3 o'clock becomes 9 o'clock from left to right, 12 becomes 6 from top to bottom",
    ),
    Rewrite(
        AXES,
        re.compile(f"{START}(?:(?:counter|anti)[- ]?)?clockwise{END}", re.I),
        _rotation,
        "senses of rotation: every mirror reverses them. 'anticlockwise' comes back as 'counterclockwise'",
    ),
    Rewrite(HORIZONTAL, re.compile("[左右]+"), _single, "左 and 右"),
    Rewrite(
        VERTICAL,
        re.compile(
            "(?<![上下])([上下])(?![上下])(?=[方部边侧端角左右起数往])|(?<=[左右最偏靠从往])(?P<after>[上下])(?![上下])"
            "|(?P<end>[顶底])(?=[部端])"
        ),
        lambda match, axis: _OPPOSITE[match.group()],
        "上方, 左上, 最下面, 从上往下, 顶部 ...",
    ),
    Rewrite(
        AXES,
        re.compile(
            f"(?<![东西南北])[东西南北]{{1,2}}(?={_EDGE})(?![东西南北])|(?<={_TOWARDS})[东西南北]+|[东西南北]{{2,}}"
        ),
        _chinese_compass,
        "东部, 最北, 东南 ...",
    ),
    Rewrite(
        AXES,
        re.compile(
            "(?<![\\d:：一二三四五六七八九十])(十[一二]?|[一两三四五六七八九]|1[0-2]|[1-9])点(?:钟|(?=方向|方位|位置))"
        ),
        _hour,
        "三点钟, 3点方向",
    ),
    Rewrite(AXES, re.compile("([顺逆])(?=时针)"), _opposite, "顺时针 and 逆时针"),
)


def _first_word(match: re.Match[str]) -> str:
    """'above', or 'upward' with its ending."""
    word = match.group("relation") or match.group("way")
    return in_case_of(word, _OPPOSITE[word.lower()]) + match.group()[len(word) :]


_ANY_COMPASS = r"(?:north|south)?[- ]?(?:north|south|east|west)(?:ern)?"
_LANDS = r"americas?n?s?|africa\w*|korea\w*|carolina|dakota|virginia|asia\w*|vietnam\w*|indies|airlines?|airways"
_DRESS = r"styles?|saddles?|hats?|shirts?|movies?|films?|toilets?|food|wear|clothing"
# Provinces, unless 部, 岸 ... follows: 湖北岸 is the northern shore of a lake.
_PROVINCES = "山东|山西|江西|河南|河北|湖南|湖北|海南|云南"
_NAMES = (
    "房东|股东|广东|京东|东京|东莞|东风|西瓜|西红柿|西装|西服|西式|西餐|西班牙|西安|西藏|西湖|西兰花|西葫芦|西裤|西洋|东洋|南洋"
    "|广西|陕西|巴西|墨西哥|新西兰|马来西亚|南瓜|南京|南宁|越南|北京|北极|南极|台北|指南|北斗"
)

KEPT: Final[tuple[tuple[str, str], ...]] = (
    (f"{START}{_ANY_COMPASS}[- ](?:{_LANDS}|{_DRESS}){END}", "countries, airlines, dress"),
    (f"{START}wild (?:east|west){END}", "the wild west"),
    (f"{START}(?:left|right)[- ](?:angle[ds]?|now|away|triangles?){END}", "right angle, right now"),
    (f"{START}numbers? of{END}", "a number of ships cannot be read"),
    ("[东西南北]{1,2}方?(?:航空|人(?!行)|国家|文化|大学|菜|虎)", "airlines, people"),
    (f"(?:{_PROVINCES})(?!{_EDGE})|{_NAMES}", "words and names that contain 东 西 南 北"),
)
"""Case-insensitive expressions with words of direction and another meaning, and examples. Each covers all directions,
so that a sentence mirrored twice is the first one again."""

_NUMBER_WORDS = f"(?:{'|'.join(_HOURS)})"
_LABELS = (
    r"numbers?|no|nr|player|gate|runway|taxiway|rows?|columns?|col|lanes?|lines?|platform|bus|train|tram|track|flight"
    r"|letter|jersey|shirt|route|pier|berth|stand"
)
_FUNCTION_WORDS = r"on|in|at|of|and|or|with|from|to|by|near|is|are|was|the|a|an|his|her|its|their"
_BODY = (
    r"hands?(?![- ]?(?:side|corner|edge|lane|part|half))|handed|hander|arms?|legs?|foot|feet|eyes?|ears?|wings?"
    r"|shoulders?|knees?|thumbs?|cheeks?|engines?|wheels?|headlights?|ti?y?res?|doors?|mirrors?|gloves?|shoes?"
)
_NOT_AFTER = "".join(
    f"(?<!{word}[ -])"
    for word in "the on to at far from in your his her its their upper lower top bottom front back rear middle".split()
)

DOUBTS: Final[tuple[Doubt, ...]] = (
    Doubt(
        AXES,
        re.compile(
            r"\b(?:says?|saying|reads?|reading|spell(?:s|ed|ing)?|words?|letters?|lettered|lettering|digits?|numerals?"
            r"|numbers?|numbered|labell?ed|labels?|written|writing|texts?|initials?)\b"
            r"|[\"“”].+?[\"“”]|(?<!\w)['‘][^'’]+['’](?!\w)|写着|写有|字样|字母|文字|数字|编号|号码|标有|标着",
            re.I,
        ),
        "a mirrored word cannot be read",
    ),
    Doubt(
        AXES,
        re.compile(
            rf"(?<![\w#.,:])\d+(?!\s?[架个辆艘只栋座条米块名位人头匹棵张把台])(?!\d|\s+(?!(?:{_FUNCTION_WORDS})\b)[^\W\d_]|(?:st|nd|rd|th)\b)"
            rf"|(?:(?<=[^\W\d])|(?<=[#.,:]))\d+(?!\d|(?:st|nd|rd|th)\b)|\b(?:{_LABELS})\W+\d+|[\d一二三四五六七八九十]号",
            re.I,
        ),
        "a number that is read in the image; counts ('2 ships') are none",
    ),
    Doubt(
        AXES,
        re.compile(rf"{_CLOCK}|{START}\w*clock\w*\W+(?:show|say|read)\w*|[点點]钟?方向|点钟", re.I),
        "no hour of a dial (15 o'clock, 3:30), or the time that a clock shows",
    ),
    Doubt(
        HORIZONTAL,
        re.compile(rf"\b(?:columns?|cols?|lanes?|lines?|tracks?)\W+{_NUMBER_WORDS}\b", re.I),
        "a number that counts from a side that is not named",
    ),
    Doubt(VERTICAL, re.compile(rf"\b(?:rows?|lines?|lanes?|tracks?)\W+{_NUMBER_WORDS}\b", re.I), "the same for rows"),
    Doubt(
        HORIZONTAL,
        re.compile(f"{START}[b-gj-lnp-sz](?:[- ]?shaped?{END}| ?字?[形型])", re.I),
        "a mirrored S is no S; A, H, I, M, O, T, U, V, W, X and Y are",
    ),
    Doubt(
        VERTICAL,
        re.compile(f"{START}[afgjl-np-wyz](?:[- ]?shaped?{END}| ?字?[形型])", re.I),
        "upside down, only B, C, D, E, H, I, K, O and X keep their shape",
    ),
    Doubt(
        AXES,
        re.compile(
            rf"{START}(?:starboard|portside|port[- ](?:side|bow|quarter|beam|wings?|engines?|hull|stern)){END}"
            rf"|{START}southpaw{END}",
            re.I,
        ),
        "sides of a ship or plane; 'port' is a harbour as well",
    ),
    Doubt(HORIZONTAL, re.compile(r"(?<![\w'’.-])[EW](?![\w'’-])"), "a letter that may be east or west"),
    Doubt(VERTICAL, re.compile(r"(?<![\w'’.-])[NS](?![\w'’-])"), "a letter that may be north or south"),
    Doubt(
        AXES,
        re.compile(
            rf"{START}{_ANY_COMPASS}[- ](?:park|face|point|sea|pole|hemisphere|union|europe\w*){END}"
            f"|{START}(?:middle|old) (?:east|west)(?:ern)?{END}",
            re.I,
        ),
        "a name or a place",
        whole=True,
    ),
    Doubt(
        HORIZONTAL,
        re.compile(
            rf"{START}{_NOT_AFTER}right (?:next|beside|behind|in (?:front|the)|above|below|under|beneath|over|at|by"
            r"|near|after|before|where|on top|up|down|outside|inside|against|here|there)\b|\ball right\b|\balright\b"
            rf"|{START}{_NOT_AFTER}left (?:behind|over|alone|open|out|empty|unattended)\b",
            re.I,
        ),
        "'right behind the car', 'left behind' may name no side",
        whole=True,
    ),
    Doubt(
        VERTICAL,
        re.compile(
            rf"{START}(?:left|right)[- ]?(?:{_BODY}){END}|{START}(?:left|right)(?:handed|hander|y|ies){END}"
            rf"|(?:\b(?:his|her|its|their|your|my|whose)|['’]s)\s+(?:own\s+|far\s+)?(?:left|right|\w+\W+{_CLOCK})\b"
            rf"|{START}(?:front|rear|back)[- ]?(?:left|right){END}"
            rf"|\b(?:turn|curv|bend|veer|bank)\w*\s+(?:to\s+)?(?:the\s+)?(?:left|right)\b"
            r"|\b(?:left|right)[- ](?:turns?|bends?|curves?)\b|[左右][手臂脚腿眼耳翼肩舷转拐]|左撇子",
            re.I,
        ),
        "sides of a person or vehicle: upside down, its left hand is a right hand at the same position",
        whole=True,
    ),
    Doubt(
        VERTICAL,
        re.compile(
            rf"{START}(?:up|down|upside|over|under|underneath|beneath|atop|high|higher|highest|low|lowest){END}"
            "|上面|底下|下|高处|低处|最高|最低",
            re.I,
        ),
        "depth or place in the image",
    ),
    Doubt(
        VERTICAL,
        re.compile(
            rf"\bon top of\b|\blower than\b|{START}(?:tank|crop|table|halter)[- ]?(?:top|bottom)s?{END}"
            r"|\btop[- ]hats?\b",
            re.I,
        ),
        "depth, clothing",
        whole=True,
    ),
    Doubt(AXES, re.compile("[东西南北]|[NS]\\.\\s?[EW]\\b"), "a compass character alone: a name or a place"),
)
