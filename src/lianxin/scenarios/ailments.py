"""Why people of a scenario are referred: what the catalogue is told, and what the hospital does about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Ailment:
    """Why somebody is referred up, what the catalogue is told, and what comes of it."""

    code: str
    name: str
    specialty: str
    facts: dict[str, Any]
    present: str
    treatment: str
    done: str
    inpatient: float = 0.3
    goes_down: float = 0.5
    emergency: bool = False
    extra: dict[str, str] = field(default_factory=dict)


AILMENTS = (
    Ailment("I10", "原发性高血压", "03.04", {"bp_systolic": 172, "bp_diastolic": 104, "drugs_count": 3, "off_target_long": True},
            "三种降压药足量联合治疗后血压仍不达标，偶有头晕。", "硝苯地平控释片、缬沙坦、氢氯噻嗪联合治疗。", "动态血压、心脏彩超，调整为四药联合。", 0.2,
            extra={"bp_record": "172/104、168/100、174/106 mmHg", "medication": "硝苯地平控释片、缬沙坦、氢氯噻嗪"}),
    Ailment("E11.9", "2型糖尿病", "03.07", {"glucose": 16.8, "hba1c": 10.4, "off_target_long": True},
            "口服药治疗后血糖长期不达标，近一月消瘦 3 kg。", "二甲双胍、格列美脲。", "胰岛素强化治疗，完成并发症筛查。", 0.5,
            extra={"glucose_record": "空腹 12.6、餐后 16.8 mmol/L", "medication": "二甲双胍、格列美脲"}),
    Ailment("I25.1", "冠状动脉粥样硬化性心脏病", "03.04", {"chest_pain": True, "need_test": True},
            "活动后胸闷一周加重，休息可缓解。", "阿司匹林、阿托伐他汀。", "冠脉造影，前降支植入支架一枚。", 0.8, 0.7,
            extra={"ecg": "窦性心律，V4-V6 ST 段压低 0.05 mV", "medication": "阿司匹林、阿托伐他汀"}),
    Ailment("J44.9", "慢性阻塞性肺疾病", "03.01", {"acute_exacerbation": True, "spo2": 89},
            "咳嗽、喘息加重三天，黄痰。", "雾化、头孢类抗感染两天无好转。", "抗感染、雾化、无创通气，好转。", 0.8,
            extra={"vitals": "体温 37.9℃，呼吸 26 次/分，血氧 89%"}),
    Ailment("E04.1", "甲状腺结节", "04.01", {"nodule_mm": 18, "tirads": 4, "suspected_malignancy": True},
            "体检发现右叶甲状腺结节 18 mm,TI-RADS 4 类。", "未治疗。", "行甲状腺右叶切除术，术后恢复顺利。", 0.9, 0.8,
            extra={"imaging": "甲状腺超声：右叶低回声结节 18×14 mm,TI-RADS 4b"}),
    Ailment("S72.0", "股骨颈骨折", "04.03", {"need_surgery": True},
            "跌倒后右髋疼痛、不能站立 6 小时。", "制动、止痛。", "人工股骨头置换术，术后第二天下地。", 1.0, 0.9,
            extra={"imaging": "骨盆平片：右股骨颈骨折，移位"}),
    Ailment("I63.9", "脑梗死", "03.03", {"onset_hours": 3, "paralysis": True, "speech_disorder": True},
            "突发左侧肢体无力、言语不清 3 小时。", "平卧、吸氧、测血糖。", "静脉溶栓，后续抗血小板与早期康复。", 1.0, 0.9, True,
            extra={"onset": "今日 08:10", "vitals": "血压 178/96 mmHg,意识清"}),
    Ailment("I21.9", "急性心肌梗死", "03.04", {"suspected_acs": True, "chest_pain": True, "onset_hours": 1},
            "持续胸痛 1 小时伴大汗。", "阿司匹林 300 mg 嚼服、氯吡格雷 300 mg。", "急诊 PCI,开通前降支。", 1.0, 0.9, True,
            extra={"ecg": "V1-V4 ST 段抬高"}),
)  # fmt: skip
WEIGHTS = (26, 18, 14, 14, 8, 8, 6, 3)
STABLE = {
    "diagnosis_clear": True, "plan_clear": True, "stable": True, "complications_treated": True,
    "rehabilitation_stage": True, "wound_healing": True, "at_goal": True,
}  # fmt: skip
