"""Contrast medium of a series, judged from its header texts: agent, route, volume, and series description.

The attributes are free text in any language. Agent, route and volume are one source, because scanners copy them to every
series of an examination; the series description is another. Two sources that name contrast outweigh one native pattern.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from corewatch.header_text import folded


class Sign(Enum):
    """What one text says about contrast medium in the vessels."""

    GIVEN = "given"
    NOT_GIVEN = "not given"
    SILENT = "silent"


@dataclass(frozen=True, slots=True)
class Described:
    """What the series description says.

    Attributes
    ----------
    native
        It names a native series.
    contrast
        It names contrast medium or angiography.
    vessels
        It names vessels, or "with and without": weaker, because native series of the same examination do so too.
    """

    native: bool = False
    contrast: bool = False
    vessels: bool = False


def words(*alternatives: str) -> re.Pattern[str]:
    """Pattern that finds one of the alternatives, each written as `header_text.folded` writes texts."""
    return re.compile("|".join(alternatives))


_UNKNOWN: Final = words(
    r"^\W*$",
    r"^\W*(unk|unknown|n\W?a|k\W?a|unspecified|undefined|default|select\w*|other|x+|test|tbd|null|nan|empty)\W*$",
    r"^\W*not? ?(known|specified|available|applicable|recorded|entered)\W*$",
    r"^\W*(keine angaben?|unbekannt|inconnu\w*|non (precise|renseigne|specifie|noto|specificato)\w*|desconhecido"
    r"|desconocido)\W*$",
    r"^\W*(sconosciuto|onbekend|okand|ukendt|ukjent|nieznany|bilinmiyor|неизвестно|未知|不明|不詳|未詳|미상)\W*$",
)
"""Texts that state nothing."""

_NOT_GIVEN: Final = words(
    # English
    r"\b(no(?!\W*\d)|not|none|nil|zero|without|w\W?/?\W?o|unenhanced|plain|never|refused|declined|withheld|nocontrast"
    r"|noncontrast)\b",
    r"^\W*n\W*$|^\W*false\W*$|\bnon\b(?!\W?ion)|\bpre\W?contrast",
    r"\bnati(v|iv)\w*|\bnatyw\w*",  # of most languages
    # German, Dutch
    r"\bohne\b|\bkein\w*|\bnicht\b|\bo\W{0,2}km\b|\bentfall\w*|\bzonder\b|\bgeen\b|\bniet\b|\bblanco\b",
    # French, Italian, Spanish, Portuguese, Romanian
    r"\bsans\b|\baucun\w*|\bpas d\w*|\bneant\b|\bs/|\bspc\b|\bsenza\b|\bnessun\w*|\bniente\b|\bsmdc\b|\bbasale\b|\bdiretta\b",
    r"\bsin\b|\bningun\w*|\bnada\b|\bnegativo\b|\bsem\b|\bnenhum\w*|\bnao\b|\bfara\b",
    # Scandinavian, Finnish
    r"\butan\b|\buten\b|\buden\b|\bing[ea][nt]?\b|\binget\b|\bikke\b|\binte\b|\bilman\b|\bei\b",
    # Polish, Czech, Hungarian, Turkish, Greek
    r"\bbez\b|\bbrak\b|\bnie\b|\bzadn\w*|\bnelkul\b|\bnincs\b|\w*siz\b|\byok\b|\bverilmedi\b|\bhayir\b|χωρισ|οχι",
    # Russian, Ukrainian, Arabic, Hebrew
    r"\bбез\b|\bнет\b|\bне\b|натив\w*|бесконтраст\w*|\bнема\w*|بدون|ללא",
    # Chinese, Japanese, Korean
    r"[无無]|なし|ナシ|平[扫掃]|単純|单纯|非造影|未[使注增用]|不使?用|非增强|非強化|없|무조영|비조영|미사용|안\W?함|아니",
)
"""Words for: none was given."""

_ZERO_DOSE: Final = re.compile(r"^\W*0+([.,]0*)?\W*(ml|cc|cm3|g|mg|l)?\W*$|(?<![\d.,])0+([.,]0+)?\W?(ml|cc|cm3)\b")

_INTO_VESSELS: Final = words(
    r"\b(iv|i\.\W?v|ia|i\.\W?a|ev|e\.\W?v)\b|\bintra\W?(ven|vein|vasc|art)\w*|\bendo\W?(ven|vas)\w*|\bvenous\b"
    r"|\bvascular\b|\barterial\w*",
    r"\bdozyln\w*|\bdamar\b|\bvein\w*|в/в|внутривен\w*|経?静脈|静[脉脈]|靜脈|血管内?|정맥|혈관",
)

_OTHER_ROUTE: Final = words(
    r"\b(oral\w*|orale|per ?os|p\W?o|enteral\w*|rectal\w*|rektal\w*|intrathe[ck]\w*|intratecal\w*|intratek\w*"
    r"|intra\W?articular\w*)\b",
    r"\b(intravesical|bowel|enema|lavement|myelo\w*|buccal\w*|bucal|drink\w*|swallow\w*|gastric|nasal\w*"
    r"|gastrogra[fp]h?in\w*|doustn\w*)\b",
    r"\bagiz\w*|peroral\w*|перорал\w*|внутрь|経口|口服|직장|경구|経腸|直腸",
)

_NO_AGENT: Final = words(
    r"\b(water|wasser|eau|agua|acqua|woda|air|luft|co2|mannitol\w*|saline|nacl|kochsalz\w*|barium|baryt\w*|bario|milk)\b"
)
"""What is drunk, flushed or blown in."""

_QUANTITIES: Final = words(r"[\d.,%/+&;-]|\b(ml|cc|l|g|mg|and|und|et|e|y|only|nur)\b|\s")

_WITHOUT_OTHER_ROUTE: Final = words(
    r"\b(no|not|without|w/?o|ohne|kein\w*|sans|senza|sin|sem|zonder|geen|bez)\W*(oral\w*|p\W?o|per os|enteral\w*"
    r"|re[ck]tal\w*)\b(\W*contrast\w*)?"
)

_W: Final = r"(with|w|mit|avec|con|com|met|med|cu)"
_WO: Final = r"(without|w\W?/?\W?o|ohne|sans|senza|sin|sem|zonder|bez|uten|uden|utan|fara)"
_AND: Final = r"[\W_]*(and|und|et|e|y|en|och|og|i|plus|then|or|oder|ou)?[\W_]*"
_WITH_AND_WITHOUT: Final = re.compile(
    rf"\b{_W}\b/?{_AND}\b{_WO}\b/?|\b{_WO}\b/?{_AND}\b{_W}\b(?!/?o\b)/?"
    r"|\bm\W?/\W?o\b|\bpre\W*(and|&|/|\+|und|et|y|e)?\W*post\b|\bc\W?[+]\W*/?\W*(c\W?)?-|\bc\W?-\W*/?\W*(c\W?)?[+]"
    r"|[+]\W?/\W?-|[+]-"
    r"|\b(plain|nativ\w*|unenhanced|non\W?contrast)\W*(and|&|/|\+|und|et|y|e|en|och|og|,)\W*(post\W*)?(contrast\w*"
    r"|kontrast\w*|km|cta|enhanced)\b"
    r"|平[扫掃]\W*[+和及]\W*增[强強]|単純\W*[+・と]?\W*造影",
    re.IGNORECASE,
)


def without_both(text: str) -> tuple[str, bool]:
    """A folded text without "with and without" in any spelling, and whether it was there.

    >>> without_both("head w/wo contrast")
    ('head  contrast', True)
    """
    rest, found = _WITH_AND_WITHOUT.subn(" ", text)
    return rest, found > 0


def judge_agent(text: str) -> Sign:
    """Contrast/Bolus Agent (0018,0010), or the meanings of (0018,0012). A word that is not known to mean otherwise is an agent."""
    said, _ = without_both(_WITHOUT_OTHER_ROUTE.sub(" ", folded(text)))
    if _UNKNOWN.search(said):
        return Sign.SILENT
    if _ZERO_DOSE.search(said) or _NOT_GIVEN.search(said):
        return Sign.NOT_GIVEN
    if _OTHER_ROUTE.search(said) and not _INTO_VESSELS.search(said):
        return Sign.NOT_GIVEN
    if _NO_AGENT.search(said) and not _QUANTITIES.sub("", _NO_AGENT.sub("", said)):
        return Sign.NOT_GIVEN
    return Sign.GIVEN


def judge_route(text: str) -> Sign:
    """Contrast/Bolus Route (0018,1040), or the meanings of (0018,0014)."""
    said = _WITHOUT_OTHER_ROUTE.sub(" ", folded(text))
    if _INTO_VESSELS.search(said):
        return Sign.GIVEN
    if _OTHER_ROUTE.search(said):
        return Sign.NOT_GIVEN
    return Sign.SILENT


def judge_volume(text: str) -> Sign:
    """Contrast/Bolus Volume (0018,1041) in mL."""
    value = re.fullmatch(r"\W*(\d+([.,]\d*)?|[.,]\d+)\W*(ml|cc)?\W*", folded(text))
    if value is None:
        return Sign.SILENT
    return Sign.GIVEN if float(value[1].replace(",", ".")) > 0 else Sign.NOT_GIVEN


def judge_administration(agent: str, route: str, volume: str) -> Sign:
    """Agent, route and volume together.

    A route outside of the vessels and a volume of 0 mL each decide against it. An agent that means none is outweighed by route and
    volume together.
    """
    agent_sign, route_sign, volume_sign = judge_agent(agent), judge_route(route), judge_volume(volume)
    if Sign.NOT_GIVEN in (route_sign, volume_sign):
        return Sign.NOT_GIVEN
    if agent_sign is Sign.NOT_GIVEN:
        return Sign.GIVEN if route_sign is volume_sign is Sign.GIVEN else Sign.NOT_GIVEN
    return Sign.GIVEN if Sign.GIVEN in (agent_sign, route_sign, volume_sign) else Sign.SILENT


def has_contrast(administered: Sign, described: Described) -> tuple[bool, str]:
    """Whether a series counts as one with contrast medium, and the finding in words where it does not."""
    if described.native:
        both = administered is Sign.GIVEN and (described.contrast or described.vessels)
        return both, "" if both else "Its description says so."
    if described.contrast:
        return True, ""
    if administered is Sign.NOT_GIVEN:
        return False, "Contrast agent, route or volume in the header say that none was given into the vessels."
    if administered is Sign.GIVEN or described.vessels:
        return True, ""
    return False, "The header names no contrast agent, and the description none either."


_VESSELS: Final = words(
    r"arter\w*|[ck]arot\w*|vessel\w*|vascul\w*|gefa(e)?ss\w*|supra.?aort\w*|tsa|cow|willis|head\W*(and|und)?\W*neck"
    r"|kopf\W*hals|hals\W*kopf",
    r"血管|혈관|сосуд\w*|артер\w*",
)


_MEDIUM: Final = re.compile(
    r"\W*(\w+\W+)?(i\W?v\W*)?(contrast\w*|kontrast\w*|con\b|k\W?m\b|c\b|iv\b|cm\b|dye\b|enhanced|medium|mdc|pdc|inj\w*|контраст\w*|造影[剤剂]?|조영제?)",
    re.IGNORECASE,
)


def described(text: str, native: re.Pattern[str], contrast: re.Pattern[str]) -> Described:
    """What a series description says. "With and without" is no native series, and the medium that is denied is no sign of contrast.

    Parameters
    ----------
    native, contrast
        Patterns of the rule. Where one is empty, it finds nothing.
    """
    rest, both = without_both(text)
    denied = [m.span() for m in native.finditer(rest)] if native.pattern else []
    for start, end in reversed(denied):
        medium = _MEDIUM.match(rest, end)
        rest = f"{rest[:start]} {rest[end if medium is None else medium.end() :]}"
    signs = [m.group() for m in contrast.finditer(rest)] if contrast.pattern else []
    vessels = bool(signs) and only_vessels(signs)
    return Described(native=bool(denied), contrast=bool(signs) and not vessels, vessels=vessels or both)


def only_vessels(signs: Iterable[str]) -> bool:
    """Whether all signs of contrast in a description are names of vessels or regions."""
    return all(_VESSELS.fullmatch(folded(sign).strip()) for sign in signs)
