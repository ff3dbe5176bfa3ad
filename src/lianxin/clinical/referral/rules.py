"""Pure decisions of referrals: no database, no clock. Safe expressions over facts, ICD-10 ranges, packs, letters.

An expression is JSON: ``{"all": […]}``, ``{"any": […]}``, ``{"not": …}`` or a comparison
``{"fact": "bp_systolic", "op": ">=", "value": 180}`` (``op`` and ``value`` left out: the fact is true). A fact nobody gave is
unknown and makes a comparison false: the catalogue never refers, and never sends down, on what was not asked.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lianxin.standards.text import T, Text

OPERATORS = {
    ">=": operator.ge,
    ">": operator.gt,
    "<=": operator.le,
    "<": operator.lt,
    "==": operator.eq,
    "!=": operator.ne,
}
MAX_DEPTH = 8
NOTHING = Text("", "")


class BadExpression(ValueError):
    """A catalogue condition that cannot be read; ``message`` says what is wrong."""

    def __init__(self, message: Text) -> None:
        super().__init__(str(message))
        self.message = message


@dataclass(frozen=True)
class Fact:
    """Something the catalogue may ask at diagnosis entry: a yes/no or a number with its unit."""

    code: str
    label: Text
    kind: str = "bool"
    unit: str = ""
    low: float | None = None
    high: float | None = None


def _facts(*facts: Fact) -> dict[str, Fact]:
    return {fact.code: fact for fact in facts}


FACTS: dict[str, Fact] = _facts(
    Fact("age", T("年龄", "Age"), "number", "岁", 0, 130),
    Fact("bp_systolic", T("收缩压", "Systolic pressure"), "number", "mmHg", 40, 300),
    Fact("bp_diastolic", T("舒张压", "Diastolic pressure"), "number", "mmHg", 20, 200),
    Fact(
        "bp_arm_difference", T("双上肢收缩压差", "Systolic difference between arms"), "number", "mmHg", 0, 150
    ),
    Fact("heart_rate", T("心率", "Heart rate"), "number", "次/分", 20, 260),
    Fact("spo2", T("血氧饱和度", "Oxygen saturation"), "number", "%", 30, 100),
    Fact("respiratory_rate", T("呼吸频率", "Respiratory rate"), "number", "次/分", 4, 80),
    Fact("glucose", T("血糖", "Glucose"), "number", "mmol/L", 0.5, 60),
    Fact("hba1c", T("糖化血红蛋白", "HbA1c"), "number", "%", 3, 20),
    Fact("potassium", T("血钾", "Potassium"), "number", "mmol/L", 1, 10),
    Fact("drugs_count", T("正在使用的降压药种数", "Antihypertensive drugs in use"), "number", "种", 0, 10),
    Fact("gestation_weeks", T("孕周", "Weeks of gestation"), "number", "周", 0, 45),
    Fact("nodule_mm", T("结节最大径", "Largest nodule diameter"), "number", "mm", 0, 200),
    Fact("tirads", T("TI-RADS 分级", "TI-RADS class"), "number", "级", 1, 6),
    Fact("onset_hours", T("发病至今", "Hours since onset"), "number", "小时", 0, 10000),
    Fact("unconscious", T("意识障碍或视物模糊", "Disturbed consciousness or blurred vision")),
    Fact("severe_headache", T("剧烈头痛", "Severe headache")),
    Fact("vomiting", T("呕吐", "Vomiting")),
    Fact("speech_disorder", T("突发言语障碍", "Sudden speech disorder")),
    Fact("paralysis", T("肢体瘫痪或无力", "Paralysis or weakness of a limb")),
    Fact("chest_pain", T("持续胸背痛", "Persistent chest or back pain")),
    Fact("dyspnoea", T("呼吸困难或不能平卧", "Dyspnoea or cannot lie flat")),
    Fact("leg_oedema", T("下肢水肿", "Leg oedema")),
    Fact("suspected_acs", T("疑似急性冠脉综合征", "Suspected acute coronary syndrome")),
    Fact("shock", T("休克或生命体征不稳", "Shock or unstable vital signs")),
    Fact("pregnant", T("妊娠或哺乳", "Pregnant or lactating")),
    Fact(
        "new_organ_damage",
        T("怀疑新发心脑肾等靶器官并发症", "Suspected new heart, brain or kidney complication"),
    ),
    Fact("proteinuria", T("蛋白尿或血尿", "Proteinuria or haematuria")),
    Fact(
        "paroxysmal",
        T("阵发性血压升高伴头痛、心慌、多汗", "Paroxysmal rise with headache, palpitation, sweating"),
    ),
    Fact("short_treatment_failed", T("短期处理后仍无法控制", "Not controlled after short treatment")),
    Fact("at_goal", T("已达控制目标", "At goal")),
    Fact("adverse_effect", T("药物不良反应难以处理", "Intractable adverse drug effect")),
    Fact("big_swings", T("血压或血糖波动大", "Large swings of pressure or glucose")),
    Fact("type_unclear", T("分型或病因不清", "Type or cause unclear")),
    Fact("recurrent_hypoglycaemia", T("反复低血糖", "Recurrent hypoglycaemia")),
    Fact("off_target_long", T("长期不达标", "Long off target")),
    Fact("ketosis", T("酮症或高渗表现", "Ketosis or hyperosmolar signs")),
    Fact("chronic_complication", T("慢性并发症需评估或治疗", "Chronic complication needing work-up")),
    Fact("need_surgery", T("需要手术治疗", "Needs surgery")),
    Fact("need_test", T("需上级检查项目", "Needs an examination not available here")),
    Fact(
        "open_fracture", T("开放性、多发或合并血管神经损伤", "Open, multiple, or with vessel or nerve injury")
    ),
    Fact("head_injury", T("合并头胸腹损伤", "With head, chest or abdominal injury")),
    Fact("high_risk_pregnancy", T("高危妊娠因素", "High-risk pregnancy factor")),
    Fact("bleeding", T("阴道流血或大出血", "Bleeding")),
    Fact("multilobar", T("多肺叶病变或胸腔积液", "Several lobes or pleural effusion")),
    Fact(
        "treatment_failed_72h", T("规范治疗 72 小时无好转", "No improvement after 72 h of proper treatment")
    ),
    Fact("acute_exacerbation", T("急性加重", "Acute exacerbation")),
    Fact("suspected_malignancy", T("怀疑恶性", "Suspected malignancy")),
    Fact("fever_high", T("持续高热", "Persistent high fever")),
    Fact("diagnosis_clear", T("诊断明确", "Diagnosis clear")),
    Fact("plan_clear", T("治疗方案明确且适合基层", "Treatment plan clear and suited to primary care")),
    Fact("stable", T("病情稳定", "Condition stable")),
    Fact("complications_treated", T("并发症已处理且稳定", "Complications treated and stable")),
    Fact("rehabilitation_stage", T("进入康复期", "In the rehabilitation stage")),
    Fact("wound_healing", T("切口愈合良好", "Wound healing well")),
    Fact("self_harm_risk", T("自伤或伤人风险", "Risk of harm to self or others")),
)


def check_expression(expression: Any, depth: int = 0) -> set[str]:
    """Facts an expression reads; raises :class:`BadExpression` when it cannot be evaluated."""
    if depth > MAX_DEPTH:
        raise BadExpression(T("条件嵌套过深", "The condition is nested too deeply"))
    if not isinstance(expression, Mapping):
        raise BadExpression(T("条件必须是对象", "A condition must be an object"))
    for word in ("all", "any"):
        if word in expression:
            parts = expression[word]
            if not isinstance(parts, list) or not parts or len(expression) != 1:
                raise BadExpression(T("all/any 须为非空列表", "all/any must be a non-empty list"))
            return set().union(*(check_expression(part, depth + 1) for part in parts))
    if "not" in expression:
        return check_expression(expression["not"], depth + 1)
    name = expression.get("fact", "")
    fact = FACTS.get(name) if isinstance(name, str) else None
    if fact is None:
        raise BadExpression(
            T("未知的事实「{fact}」", "Unknown fact “{fact}”").format(fact=str(expression.get("fact")))
        )
    if "op" in expression:
        if not isinstance(expression["op"], str) or expression["op"] not in OPERATORS:
            raise BadExpression(
                T("未知的比较「{op}」", "Unknown comparison “{op}”").format(op=str(expression["op"]))
            )
        if isinstance(expression.get("value"), bool) or not isinstance(expression.get("value"), int | float):
            raise BadExpression(T("比较值须为数字", "A comparison needs a number"))
    return {fact.code}


def holds(expression: Mapping[str, Any], facts: Mapping[str, Any]) -> bool:
    """Whether the expression is true of the facts; an unknown fact makes its comparison false."""
    if "all" in expression:
        return all(holds(part, facts) for part in expression["all"])
    if "any" in expression:
        return any(holds(part, facts) for part in expression["any"])
    if "not" in expression:
        # "not at goal" must not be true merely because nobody said: every fact inside has to be known.
        inner = expression["not"]
        return all(facts.get(code) is not None for code in check_expression(inner)) and not holds(
            inner, facts
        )
    known = facts.get(expression["fact"])
    if known is None:
        return False
    if "op" not in expression:
        return known is True
    if isinstance(known, bool) or not isinstance(known, int | float):
        return False
    return bool(OPERATORS[expression["op"]](known, expression["value"]))


def facts_true(expression: Mapping[str, Any], facts: Mapping[str, Any]) -> list[str]:
    """Codes of the facts that were given and that the expression reads (the evidence shown beside an answer)."""
    return sorted(code for code in check_expression(expression) if facts.get(code) is not None)


def read_facts(
    data: Mapping[str, Any], wanted: Iterable[str] | None = None
) -> tuple[dict[str, Any], dict[str, Text]]:
    """Facts typed in a form (strings) or sent as JSON → values, and errors by field. Blank means unknown."""
    facts: dict[str, Any] = {}
    errors: dict[str, Text] = {}
    for code in wanted if wanted is not None else FACTS:
        fact, raw = FACTS[code], data.get(code)
        if raw is None or raw == "":
            continue
        if fact.kind == "bool":
            word = str(raw).lower()
            if word in ("true", "1", "yes", "on"):
                facts[code] = True
            elif word in ("false", "0", "no", "off"):
                facts[code] = False
            else:
                errors[code] = T("{label}：请选择是或否", "{label}: choose yes or no").format(
                    label=fact.label
                )
            continue
        try:
            number = float(raw)
        except (TypeError, ValueError):
            number = float("nan")
        if not (fact.low is None or number >= fact.low) or not (fact.high is None or number <= fact.high):
            errors[code] = T(
                "{label}：请填 {low} 至 {high} 之间的数({unit})",
                "{label}: give a number from {low} to {high} ({unit})",
            ).format(label=fact.label, low=fact.low, high=fact.high, unit=fact.unit)
        else:
            facts[code] = int(number) if number == int(number) else number
    return facts, errors


def icd(code: str) -> str:
    """An ICD-10 code as compared: upper case, no blanks, without the dagger/asterisk and local extensions after x."""
    return code.strip().upper().replace(" ", "").rstrip("†*+").split("X")[0]


def icd_in(code: str, low: str, high: str) -> bool:
    """Whether a code lies in a range whose ends may be shorter ("I10".."I15" holds I10.x00 and I15.9)."""
    code, low, high = icd(code), icd(low), icd(high)
    return bool(code) and low <= code[: max(len(low), 1)] and code[: len(high)] <= high


@dataclass(frozen=True)
class Part:
    """One item of the mandatory pack that travels with a referral."""

    code: str
    label: Text
    long: bool = True
    hint: Text = NOTHING


PARTS: dict[str, Part] = {
    part.code: part
    for part in (
        Part("impression", T("初步印象", "First impression"), False),
        Part("present", T("主要现病史（转出原因）", "Present history (why referred)")),
        Part("past", T("主要既往史", "Past history")),
        Part("treatment", T("治疗经过", "Treatment so far")),
        Part("allergies", T("过敏史", "Allergies"), False),
        Part("medication", T("目前用药", "Current drugs")),
        Part("vitals", T("生命体征", "Vital signs"), False),
        Part("ecg", T("心电图结果", "ECG result"), False),
        Part("glucose_record", T("近期血糖记录", "Recent glucose readings"), False),
        Part("bp_record", T("近期血压记录", "Recent pressure readings"), False),
        Part("imaging", T("影像检查结果", "Imaging result"), False),
        Part("onset", T("发病时间", "Time of onset"), False),
        Part("obstetric", T("孕产史及产检情况", "Obstetric history and antenatal checks")),
        Part("escort", T("护送人员与交通方式", "Escort and transport"), False),
        Part("diagnosis", T("诊断结果", "Diagnosis"), False),
        Part("record_no", T("住院病案号", "Hospital record number"), False),
        Part("summary", T("出院小结（主要检查结果、治疗经过）", "Discharge summary (results, treatment)")),
        Part("drugs", T("带药及用法", "Drugs and how to take them")),
        Part("rehabilitation", T("下一步治疗方案与康复计划", "Further treatment and rehabilitation plan")),
        Part("danger_signs", T("危险信号与再次上转指征", "Danger signs and when to come back")),
    )
}
PACKS: dict[str, tuple[str, ...]] = {
    "up": ("impression", "present", "past", "treatment"),
    "up_bp": ("impression", "present", "past", "treatment", "bp_record", "medication"),
    "up_glucose": ("impression", "present", "past", "treatment", "glucose_record", "medication"),
    "up_heart": ("impression", "present", "past", "treatment", "ecg", "medication"),
    "up_stroke": ("impression", "present", "past", "treatment", "onset", "vitals"),
    "up_lung": ("impression", "present", "past", "treatment", "vitals"),
    "up_imaging": ("impression", "present", "past", "treatment", "imaging"),
    "up_obstetric": ("impression", "present", "obstetric", "treatment"),
    "emergency": ("impression", "present"),
    "down": ("diagnosis", "summary", "drugs", "rehabilitation", "danger_signs"),
    "across": ("impression", "present", "past", "treatment"),
}


def pack_parts(direction: str, emergency: bool, rule_pack: str = "") -> tuple[Part, ...]:
    """Mandatory items for a referral: the down pack for down, two lines for an emergency, else what the disease asks."""
    if direction == "down":
        name = "down"
    elif emergency:
        name = "emergency"
    else:
        name = rule_pack if rule_pack in PACKS else direction
    return tuple(PARTS[code] for code in PACKS[name])


def pack_missing(parts: Iterable[Part], pack: Mapping[str, Any]) -> dict[str, Text]:
    """Items of the pack that are not there, with what to do."""
    return {
        part.code: T("请填写「{label}」", "Fill in “{label}”").format(label=part.label)
        for part in parts
        if not str(pack.get(part.code) or "").strip()
    }


LETTER_PARTS: dict[str, Part] = {
    part.code: part
    for part in (
        Part("diagnosis", T("诊断结果", "Diagnosis")),
        Part("done", T("主要检查结果与治疗经过", "Results and treatment done")),
        Part("drugs_changed", T("用药调整", "Drugs changed")),
        Part("watch_for", T("注意事项与危险信号", "What to watch for")),
        Part("who_follows", T("由谁随访", "Who follows up"), False),
        Part("follow_when", T("何时随访", "When"), False),
    )
}
