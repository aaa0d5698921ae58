"""Header texts as scanners and people write them, in many languages: which series are a CTA of the head."""

from __future__ import annotations

from typing import Any

import pytest

from config.series import SeriesRule
from corewatch.contrast import Sign, judge_administration, judge_agent, judge_route, judge_volume
from corewatch.header_text import folded
from corewatch.reasons import Reason
from corewatch.selection import Rejected, select
from tests.support.instances import stack

DEFAULT = SeriesRule(name="cta-head", min_slices=1, min_coverage_mm=0).to_rule()
PLAIN = {"body_part": "HEAD", "study_description": "CT HEAD", "series_description": "HEAD 1.0"}


def reason(**changes: Any) -> Reason | None:
    answer = select(stack(4, 1.0, **PLAIN | changes), [DEFAULT])
    return answer.reason if isinstance(answer, Rejected) else None


NO_AGENT = """
NO CONTRAST|No contrast given|NONE|none|NO|N|0|0 ml|0.0 ml|0,0 ml|0ml|000|NIL|WITHOUT|W/O|w/o contrast|WITHOUT IV CONTRAST
NOT GIVEN|NOT ADMINISTERED
NON CONTRAST|Noncontrast|non-contrast|NON-ENHANCED|UNENHANCED|PLAIN|NATIVE|PRECONTRAST|DECLINED|refused by patient
OMNIPAQUE 0 ml|Iomeron 400/0 ml
ohne KM|OHNE|ohne Kontrastmittel|kein KM|keine|nativ|Nativ|o. KM|oKM|nicht appliziert|entfällt
sans injection|SANS|sans PDC|sans produit de contraste|aucun|pas d'injection|non injecté|néant|s/ contraste
sin contraste|SIN|ninguno|s/c|nada|senza mdc|senza contrasto|nessuno|smdc|basale|sem contraste|nenhum|não|fără contrast
zonder contrast|geen|geen contrast|blanco|utan kontrast|ingen|inget|inga|uten|uden kontrast|ikke givet|inte|ilman|ei
bez kontrastu|brak|nie podano|bez kontrastu i.v.|žádný|nélkül|nincs|kontrastsız|ilaçsız|yok|kontrast yok|verilmedi|χωρίς
без контраста|нет|не вводился|нативное|бесконтрастное|без КУ|Немає
无|無|無し|なし|造影剤なし|平扫|平掃|単純|非造影|未使用|不使用|未增强|없음|조영제 없음|비조영
ORAL|oral contrast|Omnipaque ORAL|PO|p.o.|per os|RECTAL|rektal|GASTROGRAFIN|Telebrix ORAL|WATER|NaCl 50 ml|air|Barium|enteral
intrathecal
doustnie|перорально|経口|口服|경구|ağızdan|vía oral|voie orale|buccale
"""
AGENT = """
OMNIPAQUE 350|Omnipaque 350 100ml|OMNIPAQUE|IODINE 350|APPLIED|100|100 ml|80.0|NONIONIC|NON-IONIC|Non ionic|Ultravist
ULTRAVIST 370|Iomeron 400 80ml
Isovue-370|XENETIX|Visipaque 320|Imeron|SOLUTRAST 300 M|Jopamiro|Optiray|Ioversol|Iopromide|Iodinated contrast agent|Conray
Accupaque 350 / 50
Yes|Y|JA|C+|CE|KM|KM i.v.|mit KM|contrast|CONTRAST 20 ML|IV|i.v.|IV AND ORAL|oral + iv|IV CONTRAST NO ORAL|& OMNIPAQUE 350
avec injection
Иогексол|Омнипак|контраст|в/в|优维显|碘海醇|イオパミドール|造影剤|造影剤あり|조영제|Kontrast verildi|con contraste
con mdc|m.d.c. e.v.
Iohexol 300mg/ml|IOPAMIDOL 0.612|Omnipaque 350/NaCl|Iobitridol|Scanlux|Oxilan|Hexabrix|Urografin|No.1 Omnipaque|Bolus
Iodixanol|ISOVUE 10ml
"""
SILENT = "|-|--|.|?|unknown|UNKNOWN|n/a|N.A.|unspecified|keine Angabe|inconnu|unbekannt|desconocido|неизвестно|不明|未知"
SILENT += "|not available|null"


def each(table: str) -> list[str]:
    return [word for line in table.strip("\n").splitlines() for word in line.split("|")]


@pytest.mark.parametrize("agent", each(NO_AGENT))
def test_an_agent_that_says_that_none_was_given_into_the_vessels(agent: str) -> None:
    assert judge_agent(agent) is Sign.NOT_GIVEN
    assert reason(contrast_agent=agent) is Reason.NO_CONTRAST
    assert reason(contrast_agent=agent, series_description="HEAD & NECK 1.0") is Reason.NO_CONTRAST, "a region is a weak sign"
    assert reason(contrast_agent=agent, series_description="CTA HEAD 1.0") is None, "scanners leave defaults; the images decide"


@pytest.mark.parametrize("agent", each(AGENT))
def test_an_agent_that_was_given(agent: str) -> None:
    assert judge_agent(agent) is Sign.GIVEN
    assert reason(contrast_agent=agent) is None


@pytest.mark.parametrize("agent", SILENT.split("|"))
def test_an_agent_that_states_nothing(agent: str) -> None:
    assert judge_agent(agent) is Sign.SILENT
    assert reason(contrast_agent=agent) is Reason.NO_CONTRAST
    assert reason(contrast_agent=agent, series_description="HEAD & NECK 1.0") is None


@pytest.mark.parametrize(
    ("agent", "route", "volume", "sign"),
    [
        ("", "", "", Sign.SILENT),
        ("", "IV", "", Sign.GIVEN),
        ("", "", "80", Sign.GIVEN),
        ("", "", "0", Sign.NOT_GIVEN),
        ("", "ORAL", "", Sign.NOT_GIVEN),
        ("OMNIPAQUE 350", "ORAL", "500", Sign.NOT_GIVEN),
        ("OMNIPAQUE 350", "Oral route", "", Sign.NOT_GIVEN),
        ("OMNIPAQUE 350", "Intravenous route", "80", Sign.GIVEN),
        ("OMNIPAQUE 350", "IV", "0.0", Sign.NOT_GIVEN),
        ("OMNIPAQUE 350", "ORAL & IV", "80", Sign.GIVEN),
        ("OMNIPAQUE 350", "", "0 ml", Sign.NOT_GIVEN),
        ("NONE", "", "80", Sign.NOT_GIVEN),
        ("NONE", "IV", "80", Sign.GIVEN),
        ("NONE", "IV", "0", Sign.NOT_GIVEN),
        ("", "unknown", "?", Sign.SILENT),
    ],
)
def test_agent_route_and_volume_are_judged_together(agent: str, route: str, volume: str, sign: Sign) -> None:
    assert judge_administration(agent, route, volume) is sign
    found = reason(contrast_agent=agent, contrast_route=route, contrast_volume=volume)
    assert found is (None if sign is Sign.GIVEN else Reason.NO_CONTRAST)


@pytest.mark.parametrize(
    ("text", "sign"), [("80", Sign.GIVEN), ("80,5 ml", Sign.GIVEN), ("0,0", Sign.NOT_GIVEN), ("x", Sign.SILENT)]
)
def test_volumes(text: str, sign: Sign) -> None:
    assert judge_volume(text) is sign


@pytest.mark.parametrize(
    ("text", "sign"), [("В/В", Sign.GIVEN), ("静脈内", Sign.GIVEN), ("rectal", Sign.NOT_GIVEN), ("", Sign.SILENT)]
)
def test_routes(text: str, sign: Sign) -> None:
    assert judge_route(text) is sign


# descriptions ---------------------------------------------------------------------------------------------------------------------

CTA = """
CTA HEAD W/WO CONTRAST|CTA HEAD W/ & W/O|CTA HEAD WITH/WITHOUT|CTA HEAD WITH AND WITHOUT CONTRAST|CTA BRAIN W WO CONT
CTA HEAD W+W/O|CTA HEAD WO/W
CTA HEAD W/O & W/|CTA HEAD PRE/POST|CTA mit und ohne KM|CTA ohne/mit KM|AngioTC con y sin contraste
angio-TDM sans et avec injection|CTA +/- C
CTA STROKE PROTOCOL 0.6|CTA HEAD LOW DOSE|LOW DOSE CTA|CTA HEAD FOR 3D|CTA THIN FOR MIP|CTA FOR MPR 0.6|CTA Sub-mm|CTA SUB MM
CTA submillimeter|CTA SUB 1MM
CTA HEAD FOR REPORTING|3D-CTA HEAD|3D CTA BRAIN|CTA BOLUS TRIGGERED|CTA HEAD BOLUS TRACKING 0.5|CTA IODINE 350
CTA late arterial|CTA PHASE 1|mCTA phase 1
CTA 1st phase|CTA 1. Phase|CTA PH1|CTA ARTERIAL PHASE|CTA HEAD 80 KV|CTA 100kV|CTA DE M_0.6|CTA monophasic|CTA POST CONTRAST
CTA post coiling|CTA POST OP
CTA POST 0.6|CTA arteriovenous malformation|CTA intravenous contrast|CTA PROTOCOL HEAD NECK|Stroke Protocol CTA
CTA HEAD reduced dose|CTA half dose
CTA without tilt|CTA HEAD W/O GANTRY TILT|CTA ohne Kippung|CTA HEAD NO DELAY|CTA carotis sin|CTA 70%|CTA 0.625 STANDARD
CTA multiphase 0.6|CTA 3 PHASE
CTA HEAD 0.5 H30f|Angio CARO-CEREBRAL 0.75 B20f|CTA 0.6 Hv40 A3|DE_CarotidAngio 0.75 D26f F_0.5|HeadAngio 0.75 H20f
CTA_Head_Neck 0.6 Bv40 3|Neuro^CTA_HeadNeck
CT Angio Brain|Thin Head CTA AXIAL|ANGIO CoW|CTA H/N 0.625|CTA HEAD .625|0.625mm CTA HEAD ASIR-V 50|CTA COW 0.625 DLIR-H
AX CTA HEAD THIN|HELICAL CTA
1.0 x 0.8 HEAD & NECK|CTA, iDose (3)|CTA Brain 0.9 iDose4|CTA CAROTID/COW, iDose (4)|AiCE CE Brain|CE Head 0.5 CTA
CTA 0.5 AIDR 3D|CTA Brain 0.5 AIDR3D eSTD FC43
CTA 1.0 AIDR 3D|HALS-KOPF CTA|CTA ARCH TO VERTEX|TSA angio|Hirngefäße arteriell 0,6|Kopf-Hals-Angio 0,75
CTA Schädel Dünnschicht|Angio-TDM TSA 0.6
ANGIO TSA ARTERIEL|Polygone de Willis|angioscanner cérébral|AngioTC cerebral|Angio-TAC craneo fase arterial|angio TC encefalo
angiotomografia cerebral
CTA hersenvaten|CTA hoofd-hals|angio TK głowy|angio-KT|DT-angio hoved|DT angio huvud|BT anjiyo beyin|КТ-ангиография головы
КТА сосудов головного мозга|頭部CTA
頭頸部造影CT|头颈CTA|颅脑CTA 1.0|颅脑血管增强|脳血管CTA|뇌혈관 CTA|CTA NECK AND HEAD 0.75 Br36|CTA B_VSOFT_B
CTA HEAD UIH 0.5 H_SOFT_B
CTA Neusoft F20 0.625
"""
NATIVE = """
HEAD W/O 0.625|Head without contrast|HEAD WO CONTRAST|non contrast head 5mm|NON-CON HEAD|NCCT|CT Head NC|NECT 1.0
HEAD NO CONTRAST|Head plain|HEAD C-
Schädel nativ 1.0|Kopf ohne KM|CCT nativ|Schädel o. KM|crâne sans injection|crâne SPC|TDM cérébral sans IV
cráneo sin contraste|cráneo simple|TC craneo S/C
encefalo senza mdc|cranio basale|TC encefalo diretta|crânio sem contraste|hersenen blanco|hoofd zonder contrast
huvud utan kontrast|hoved uden kontrast
głowa bez kontrastu|hlava nativně|beyin kontrastsız|голова без контраста|нативное исследование головы|颅脑平扫|頭部単純|頭部非造影
뇌 비조영
두부 조영 전
CTA HEAD NATIVE|CTA pre contrast|PRE CONTRAST HEAD|CTA nativ
"""
BY_PRODUCTS = """
CTA HEAD delayed|CTA DELAY|CTA HEAD 2nd phase|CTA 2ND PHASE|CTA phase 2|CTA PHASE II|CTA PH3|CTA PH 2|CTA Ph.2|CTA LATE
CTA veineux|TSA VEINEUX|CTA venosa|CTA fase venosa
CTA venös|CTA venoes|CTA veneux|angio temps veineux|CTA post 30s|CTA POST 30 SEC|CTA POST 60|CTA +30s|CTA spät|CTA spaet
CTA Spätphase|CTA tardif|temps tardif angio
CTA fase tardía|CTA tardiva|CTA 2. Phase|CTA zweite Phase|CTA 2ème phase|CTA segunda fase|CTA fase 2|CTA faza 2
CTA faza żylna|CTA późna|CTA laat|CTA tweede fase
КТА венозная фаза|КТА фаза 2|КТА отсроченная|CTA 静脈相|CTA 静脉期|CTA 第2相|CTA 第二期|CTA 延迟期|CTA 遅延相|CTA third phase|mCTA 2
multiphase CTA 3|CTA 5 min
CTV HEAD|CT VENOGRAM|CT venography head|Venographie Kopf|phlebo CT|CTA CVT|sinus venosus CTA|CTA veins
HEAD BONE 0.6|CTA bone|CTA Knochen|CTA os osseux|CTA SHARP|CTA 0.6 Qr68|CTA 0.6 Hr68f|CTA 0.75 H60s|CTA lung|CTA EDGE
CTA SUB|CTA subtracted|CTA subtraction|CTA Subtraktion|CTA soustraction|CTA DSA|CTA sustracción|CTA 減算
CTA 40 keV|MonoE 40keV CTA|CTA Mono+ 55|CTA monoenergetic|CTA VMI|CTA iodine map|CTA iodine|Jod CTA|CTA VNC|CTA VNCa
virtual non contrast CTA|CTA Zeff|virtual mono CTA
CT HEAD CTAC|CTAC 3.75 HEAD|AC CT HEAD|CT AC HEAD|attenuation correction head CTA|PET CT HEAD CTA
CTP 5.0 perfusion|VPCT CTA|CTA DynMulti4D|CTA shuttle|Neuro perf|CTA 4D|4D CTA|CTA dynamic|CTA dynamisch|CTA perfusión|CTA 灌注
CTA TMIP|CTA time point 3|CTA TAVG
CTA MIP|CTA AX MIP 10/2|VRT Head CTA|CTA VR|CTA MPR|3D VR CTA|CTA 3D MIP|CTA 3D|CTA 3D rot|CTA curved
Monitoring CTA|CTA Premonitoring|test bolus CTA|SmartPrep CTA|CTA SureStart|CTA topogram|CTA scout|Patient Protocol CTA
Dose Report CTA|CTA dose info|CTA report
"""


@pytest.mark.parametrize("description", each(CTA))
@pytest.mark.parametrize("agent", ["OMNIPAQUE 350", ""])
def test_true_ctas_are_analysed(description: str, agent: str) -> None:
    assert reason(series_description=description, contrast_agent=agent) is None


@pytest.mark.parametrize("description", each(NATIVE))
def test_native_heads_are_not_analysed(description: str) -> None:
    assert reason(series_description=description) is Reason.NO_CONTRAST
    # a single sign of contrast does not outweigh it: scanners copy the agent to every series of an examination
    found = reason(series_description=description, contrast_agent="OMNIPAQUE 350")
    assert found is (None if "CTA" in description else Reason.NO_CONTRAST), "two signs outweigh one pattern"


@pytest.mark.parametrize("description", each(BY_PRODUCTS))
def test_by_products_of_a_cta_are_not_analysed(description: str) -> None:
    assert reason(series_description=description, contrast_agent="OMNIPAQUE 350") is Reason.EXCLUDED_BY_RULE


KERNELS_SHARP = "Qr68|Ev80|T80f|I70f\\3|Hr68f\\3|H70h|H60s|B60f|B75f|J70h|Br64|Bl64f|U90u|BONE|BONEPLUS|EDGE|LUNG|HD BONE"
KERNELS_SHARP += "|SHARP|B_SHARP_C|H_SHARP|VSHARP"
KERNELS_SHARP += "|FC30|FC35|FC51|FC81|ULTRA|YC|YD|D|E|L|B_BONE|Bone kernel"
KERNELS_SOFT = "H30f|H20f|H31s|B20f|B26f|Hv40f\\3|Hr38|Hr40f|Bv36|Bv40d\\3|Qr36|Qr40|Br36|J40s\\3|I26f\\3|I30f|D26f|Bf37"
KERNELS_SOFT += "|Uf34|T20f|STANDARD|SOFT|DETAIL"
KERNELS_SOFT += "|FC43|FC44|FC08|FC20|FC64|FC62|A|B|C|UA|UB|UC|B_SOFT_B|H_SOFT_B|VSOFT|SMOOTH|Brain CTA|F20||Body|XCO|40"


@pytest.mark.parametrize("kernel", KERNELS_SHARP.split("|"))
def test_sharp_kernels(kernel: str) -> None:
    assert reason(convolution_kernel=kernel, series_description="CTA HEAD") is Reason.EXCLUDED_BY_RULE


@pytest.mark.parametrize("kernel", KERNELS_SOFT.split("|"))
def test_soft_kernels(kernel: str) -> None:
    assert reason(convolution_kernel=kernel, series_description="CTA HEAD") is None


@pytest.mark.parametrize("text", ["ТОМОГРАФИЯ", "Schädel", "ＣＴＡ", "İstanbul", "후방", "データ", "żyła Ł"])
def test_folding_twice_changes_nothing(text: str) -> None:
    assert folded(folded(text)) == folded(text) == folded(text.upper())


# Image Type -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ("VMI", Reason.EXCLUDED_BY_RULE),
        ("MONO_E 40KEV", Reason.EXCLUDED_BY_RULE),
        ("CT_SOM7 SPI DUAL\\MONO PLUS", Reason.EXCLUDED_BY_RULE),
        ("MONOENERGETIC", Reason.EXCLUDED_BY_RULE),
        ("70KEV", Reason.EXCLUDED_BY_RULE),
        ("MAT_SPECIFIC", Reason.EXCLUDED_BY_RULE),
        ("MAT_VALUE_BASED", Reason.EXCLUDED_BY_RULE),
        ("MAT_FRACTIONAL", Reason.EXCLUDED_BY_RULE),
        ("MAT_REMOVED", Reason.EXCLUDED_BY_RULE),
        ("MAT_MODIFIED", Reason.EXCLUDED_BY_RULE),
        ("EFF_ATOMIC_NUM", Reason.EXCLUDED_BY_RULE),
        ("ELECTRON_DENSITY", Reason.EXCLUDED_BY_RULE),
        ("IODINE", Reason.EXCLUDED_BY_RULE),
        ("SUBTRACTION", Reason.EXCLUDED_BY_RULE),
        ("MEAN", Reason.EXCLUDED_BY_RULE),
        ("STD_DEVIATION", Reason.EXCLUDED_BY_RULE),
        ("ADDITION", Reason.EXCLUDED_BY_RULE),
        ("CT_SOM5 SPI DYN", Reason.EXCLUDED_BY_RULE),
        ("VNC", Reason.NO_CONTRAST),
        ("VIRTUAL_NON_CONTRAST", Reason.NO_CONTRAST),
        ("PERFUSION", Reason.NOT_A_VOLUME),
        ("REFERENCE", Reason.NOT_A_VOLUME),
        ("NONE", None),
        ("ENERGY_PROP_WT", None),
        ("RESAMPLED", None),
        ("CT_SOM5 SPI DUAL STD", None),
        ("HELIX", None),
        ("REFORMATTED\\AVERAGE", None),
    ],
)
def test_values_of_image_type(values: str, expected: Reason | None) -> None:
    for first in ("ORIGINAL", "DERIVED"):
        image_type = (first, "PRIMARY", "AXIAL", *values.split("\\"))
        assert reason(image_type=image_type, series_description="CTA HEAD 1.0") is expected


@pytest.mark.parametrize("flavour", ["ATTENUATION", "DYNAMIC", "FLUOROSCOPY", "PRE_CONTRAST", "LOCALIZER"])
def test_value_3_of_enhanced_ct(flavour: str) -> None:
    assert reason(image_type=("ORIGINAL", "PRIMARY", flavour, "NONE"), series_description="CTA HEAD") is not None
    for fit in ("VOLUME", "ANGIO", "POST_CONTRAST"):
        assert reason(image_type=("ORIGINAL", "PRIMARY", fit, "NONE"), series_description="CTA HEAD") is None


def test_derived_images_of_a_multi_energy_acquisition_need_a_kind_that_is_known() -> None:
    derived, original = ("DERIVED", "PRIMARY", "AXIAL"), ("ORIGINAL", "PRIMARY", "AXIAL")
    cta = {"series_description": "CTA HEAD", "multi_energy": True}
    assert reason(image_type=original, **cta) is None
    assert reason(image_type=derived, **cta) is Reason.EXCLUDED_BY_RULE
    assert reason(image_type=(*derived, "ENERGY_PROP_WT"), **cta) is None
    assert reason(image_type=derived, series_description="CTA HEAD") is None


def test_a_rule_may_allow_monoenergetic_images_and_no_others() -> None:
    rule = SeriesRule(name="photon-counting", multi_energy=True, min_slices=1, min_coverage_mm=0).to_rule()
    for kind, fits in (("VMI", True), ("MAT_REMOVED", False), ("SUBTRACTION", False)):
        series = stack(4, 1.0, image_type=("DERIVED", "PRIMARY", "AXIAL", kind), series_description="CTA HEAD")
        assert isinstance(select(series, [rule]), Rejected) is not fits
