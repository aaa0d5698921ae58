"""Default patterns of a series rule: words of descriptions and kernels, in the languages and from the manufacturers that occur.

The patterns are searched in the text as it is and as `header_text.folded` writes it, so each word is here once: in lower case,
without accents. A word inside a phrase that means something else is no reason: "stroke protocol", "low dose", "for 3D", "sub-mm".
"""

from __future__ import annotations

from typing import Final


def any_of(*alternatives: str) -> str:
    """One pattern, case-insensitive, that matches where one of the alternatives does."""
    return "(?i)(" + "|".join(alternatives) + ")"


_NOT_FOR: Final = "".join(
    rf"(?<!\b{word} )" for word in ("for", "fur", "fuer", "pour", "para", "per", "voor", "source", "before", "aidr")
)
_NO: Final = r"(?<!no )(?<!w/o )(?<!without )(?<!ohne )(?<!sans )"
_NUMBER_ALONE: Final = r"(?!\W*(mm|cm|\d))(?![.,])"

HEAD_TEXT: Final = any_of(
    r"head|brain|skull|neuro|cerebr|crani|cr[aâ]ne|cr[aá]neo|enc[eé]phal|cerveau|\bt[eê]te\b|cabeza|cabeca|\btesta\b|encefal",
    r"kopf|sch(ae|ä)del|schadel|hirn|hersen|hoofd|hoved|huvud|hjern|hjärn|hjarn|\bhode\b|stroke|schlaganfall|ictus|\bavc\b|udar",
    r"neck|hals|\bcou\b|cuello|\bcollo\b|pescoco|nacka|carot|karot|supra.?aort|\btsa\b|\bcow\b|willis|vertex|intracran|intrakran",
    r"czaszk|mozg|glow[aey]|hlav|koponya|\bagy|beyin|\bkafa|boyun|голов|мозг|череп|ше[ия]|头|頭|颅|脳|脑|颈|頸|뇌|두부|머리|경부|κεφαλ|εγκεφαλ",
)
ELSEWHERE_TEXT: Final = any_of(
    r"chest|thora|lung|abdom|pelvi|becken|liver|leber|kidney|renal|cardi|heart|herz|coronar|koronararter|aorta|runoff|femor",
    r"extremit|\bleg|\bbein|\barm\b|knee|foot|shoulder|spine|lumb|wirbel|\b[hbl]ws\b",
)
CONTRAST_TEXT: Final = any_of(
    r"cta|angi[oó]|anjiy?o|contrast|kontrast|enhanced|\bc ?\+|\+ ?c\b|\bkm\b|\bmdc\b|\bpdc\b|\bce\b|\biv\b"
    r"|\binj(ect\w*)?\b|injected",
    r"arter|carot|karot|vessel|vascul|gef(ae|ä)(ss|ß)|gefass|supra.?aort|\btsa\b|\bcow\b|willis",
    r"head\W*(and|und)?\W*neck|kopf\W*hals|hals\W*kopf|ангио|\bкта\b|контраст|артер|сосуд|αγγειο|造影|增[强強]|増強|血管|조영|혈관",
)
_CONTRAST_NOUN: Final = (
    r"(\d+ ?)?(i\.?v\b|c\b|k\W?m\b|cm\b|contr\w*|kontr\w*|dye|enhanc\w*|medi\w*|mezzo|mdc|meio|produit|pdc|inj\w*|civ"
    r"|cte|yodo|iodo|jodu?)"
)
NATIVE_TEXT: Final = any_of(
    rf"\bnon?[ -]?(i\.?v\.?[ -]?)?(contrast|kontrast|enhanc|con\b|c\b)|\bno\W+{_CONTRAST_NOUN}|unenhanced|\bncct\b"
    rf"|\bnect\b|\bnc\b|\bncc\b",
    r"\bnati[vw]|\bnatyw|\bnatiiv|\bplain\b(?! film)|\bc-(\s|$)|\bpre[ -]?(contrast|kontrast|km\b|iv\b|inj)|\bblanco\b"
    r"|\bbasale\b|\bdiretta\b",
    # "without" as a word of its own, unless it is something else that is left out
    r"\b(w/?o|w o|without|ohne|sans|senza|zonder|bez|utan|uten|uden|ilman|fara|nelkul)\b"
    r"(?!\W*(\w+ )?(bones?|tilt\w*|gantry|delay|mips?|mpr|recon\w*|head ?holder|holder|metal\w*|mar\b|artifact\w*"
    r"|artefact\w*|artefakt\w*"
    r"|edge|filt\w*|idose|asir|motion|knochen|(ver)?kippung|angul\w*|sedation|collar|helmet|prothes\w*|inclin\w*))",
    rf"\b(sin|sem)\W*{_CONTRAST_NOUN}|\b(craneo|cerebro|cabeza|cranio|crani|encefalo|tc|tac)\W+simple\b|\bs/\W*{_CONTRAST_NOUN}",
    rf"\bo\W{{0,2}}k\W?m\b|unverstarkt|\bkein\w* {_CONTRAST_NOUN}|\bnon inject|\bspc\b|\bs\W?m\W?d\W?c\b"
    rf"|\bgeen {_CONTRAST_NOUN}|\bingen {_CONTRAST_NOUN}",
    r"kontrastsiz|ilacsiz|натив|бесконтраст|\bбез\W*(контраст|ку\b|кв\b|усил|в/в)|χωρισ",
    r"平[扫掃]|単純|单纯|非造影|[無无]造影|造影[剤剂]?(な[しい]|前|無)|[非未无]增[强強]|非強化|비조영|무조영|조영\W*전|조영제?\W*(없|미)",
)

NOT_TEXT: Final = any_of(
    # projections, reformats, renderings
    rf"{_NOT_FOR}\b(mips?|minip|mpr|vrt?|ssd)\b|{_NOT_FOR}\b3d\W*(vrt?|mip|rend\w*|view|rot\w*|spin|movie|tumbl\w*"
    rf"|snap\w*|surf\w*|model|cine|loop|images?)\b",
    rf"{_NOT_FOR}\b3d\W*\d*$|\bmaximum intensity|\bvolume rend\w*|\bcurved\b|\bcpr\b",
    # localizers, bolus monitoring
    r"\btopo(gram\w*)?\b|\bscout\b|\bsurview\b|\bscanogram\w*|\blocali[sz]er\b|\blocalizador\b",
    r"\b(test|timing|mini)\W?bolus\b|^(?!.*cta).*\bbolus\b|\b(pre)?\W?monitor\w*|\bpremonit\w*|\bsmart ?prep"
    r"|\bsure ?start|\btracker\b|モニタ|监测",
    # perfusion and other dynamic acquisitions
    r"\bperf\b|perfusi\w*|\bctp\b|\b4d\b|\bcbf\b|\bcbv\b|\bmtt\b|\btmax\b|\bttp\b|\bn?vpct\b|\bdyn\b"
    r"|\bd[yi]n[ae]mi[cqksz]\w*|\bdynmulti\w*|\bshuttle\b",
    r"\btoggling\b|\bjog\b|\btime ?points?\b|\bt ?mip\b|\bt ?avg\b"
    r"|\btemporal (avg|average|mean|mip)|перфузи|灌[注流]|パーフュージョン|관류",
    # pages
    r"\b(dose|dosis|dosi|doz)\W?(report|info\w*|page|sum\w*|record|sheet|sr|rapport|bericht|protokoll?|image|table)\b"
    r"|^\W*(dose|dosis)\W*\d*$",
    r"(?<!for )\breports?\b|\bpatient(en)?\W?proto[ck]oll?\b|^\W*(exam\w* |scan |dose |study )?proto[ck]ol[le]?\W*\d*$"
    r"|\bdosisbericht\b|\brdsr\b",
    # sharp reconstructions
    r"\bbones?\b|\bboneplus|knochen|\bosseu[sx]|\bosseuse|\bhueso|\bosso\b|\boss?e[ao]\b|\bkosc|\bkostn|\bknogle"
    r"|\bskelett?\b|\bkemik|\bкост",
    r"骨(窗|窓|条件|算法|重建|関数)|\blungs?\b|\blunge\b|poumon|\bpulmon|\bpolmon|\bakciger|легк|肺|\bsharp\b|\bscharf\b|\bedge\b",
    r"\b[hbuq][rvflcp][6-9]\d[fhsm]?\b|\b[hbtiu][6-9]\d[fhsm]\b",
    # subtraction and multi-energy images
    r"\bsub\b(?!\W*\d*([.,]\d+)?\W*(mm|milli|sec|s\b))|\bsubtra|\bsoustra|\bsustra|\bsottra|\bsubstra[ck]t|\bodejm"
    r"|\bdsa\b|減算|减影|サブトラ|субтракц|вычит",
    r"\b(iodine|jod|iode|yodo|iodo|jood)\b(?!\W*\d{3})|\bvnca?\b|\bvirtual\w*\W*(non|nativ|unenh|mono)|\bmono ?[e+]"
    r"|\bmono\W?(chrom|energ|plus)",
    r"\d+ ?kev\b|\bvmi\b|\bz ?eff\b|\beff\w* z\b|\belectron dens|\brho\W?z\b|\bmaterial\W?(dens|decomp|map|basis)"
    r"|\bwater ?\(|\bcalcium\W?(remov|suppr)",
    # late phases
    r"(?<!arterio.)(?<!intra.)\bvei?n(ous|oe?s\w*|eu[xs]\w*|os[aoei]|oz\w*)\b|\bveins?\b|\bvenen\b|\bctv\b"
    r"|\bveno\W?gra\w*|\bphleb\w*|\bfleb\w*|\bzyln",
    r"\bcvs?t\b|веноз|静[脈脉](相|期|洞)|정맥기",
    rf"{_NO}\bdelay(s|ed)?\b|\blate\b(?!\W*art)|\bsp(a|ae)t(e[rns]?|phase\w*)?\b|\btardi(ve?|f|fs|ves|va|vo|a|o|e)\b"
    rf"|\bretardad|\bo?pozn\w*|\blaat\b",
    r"\bsen (faz|fas)|\bgec faz|отсроч|поздн|延[迟遲]|遅延|지연|晚期|\bequilibr|\bwash ?out\b|\bportal\b",
    rf"\b(phase|phases|fase|faza|faz|fas|ph|фаза)\W{{0,2}}([2-9]|ii|iii|iv|two|three){_NUMBER_ALONE}\b",
    r"\b[2-9](nd|rd|th|e|de|eme|ieme|\.|a|o|st|я|-я)\W{0,2}(phase|fase|faz\w*|фаз\w*|fas|acq\w*|pass)\b",
    r"\b(second|third|zweite|dritte|deuxieme|troisieme|segunda|tercera|terceira|seconda|terza|tweede|derde|druga"
    r"|trzecia|andra|tredje|ikinci|ucuncu"
    r"|втор\w*|трет\w*)\W*(phase|fase|faz\w*|фаз\w*|fas|acq\w*|pass)\b|第[2-9二三四]相|第[二三]期|[23]상\b",
    rf"\b(multi\W?phase|mcta)\W*(cta\W*)?[2-9]{_NUMBER_ALONE}\b|\bpost\W*\d+\W?(s|sec\w*|sek\w*|seg\w*)\b|\bpost\W*\d{{2,3}}$",
    r"\+ ?\d+ ?s(ec|ek)?\b|\b\d+ ?(s|sec|sek|seg) (post|spat\w*|later|nach)\b|\b(nach|apres|despues|dopo"
    r"|after) ?\d+ ?(s|sec|sek|seg|min)\w*|\b\d+ ?min\b",
    # attenuation correction
    r"\bct\W?ac\b|\bac\W?ct\b|\bct\W?wb\b|\battenuation|schwachungs|\bpet\b|\bspect\b",
)
"""Kinds of series that are no first arterial phase in the scanner's own soft-tissue reconstruction."""

NOT_KERNEL: Final = any_of(
    r"bone|edge|lung|ultra|sharp|\bscharf",
    r"^\s*[a-eg-z][a-z]?[6-9]\d",  # Siemens: family, variant, sharpness from 60
    r"^\s*f[a-bd-z]?[6-9]\d",  # the same; FC60 and above of Canon are for the head
    r"^\s*fc[358]\d",  # Canon: bone, lung, high resolution
    r"^\s*(d|e|l|y[cde])\s*$",  # Philips
)
"""Convolution kernels for bone and lung."""
