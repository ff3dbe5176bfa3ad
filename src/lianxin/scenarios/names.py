"""Synthetic Chinese names: surnames by real frequency, given-name characters by sex and decade of birth.

Nobody's name is stored here: names are drawn character by character. Surname shares are rounded from the published national
ranking (公安部《二〇二〇年全国姓名报告》 order); the tail is a flat remainder.
"""

from __future__ import annotations

from random import Random

SURNAMES = (
    "王 7.2 李 7.1 张 6.8 刘 5.2 陈 4.6 杨 3.1 黄 2.3 赵 2.1 吴 2.1 周 2.0 徐 1.5 孙 1.5 马 1.3 朱 1.3 胡 1.3 郭 1.2 何 1.1 林 1.1 罗 0.9 高 0.9 "
    "郑 0.9 梁 0.8 谢 0.8 宋 0.7 唐 0.7 许 0.6 韩 0.6 冯 0.6 邓 0.6 曹 0.6 彭 0.5 曾 0.5 肖 0.5 田 0.5 董 0.5 袁 0.5 潘 0.5 于 0.5 蒋 0.5 蔡 0.5 "
    "余 0.4 杜 0.4 叶 0.4 程 0.4 苏 0.4 魏 0.4 吕 0.4 丁 0.4 任 0.4 沈 0.4 姚 0.3 卢 0.3 姜 0.3 崔 0.3 钟 0.3 谭 0.3 陆 0.3 汪 0.3 范 0.3 金 0.3 "
    "石 0.3 廖 0.3 贾 0.3 夏 0.3 韦 0.3 付 0.3 方 0.3 白 0.3 邹 0.3 孟 0.3 熊 0.3 秦 0.3 邱 0.2 江 0.2 尹 0.2 薛 0.2 闫 0.2 段 0.2 雷 0.2 侯 0.2 "
    "龙 0.2 史 0.2 陶 0.2 黎 0.2 贺 0.2 顾 0.2 毛 0.2 郝 0.2 龚 0.2 邵 0.2 万 0.2 钱 0.2 严 0.2 覃 0.2 武 0.2 戴 0.2 莫 0.2 孔 0.2 向 0.2 汤 0.2 "
    "奚 0.1 裘 0.1 单 0.05 仇 0.05 区 0.02 欧阳 0.1 上官 0.03 司马 0.02 尉迟 0.01"
).split()
_SURNAME = SURNAMES[::2]
_SURNAME_WEIGHT = [float(w) for w in SURNAMES[1::2]]

# (born before, characters) — each generation had its fashions.
_MALE = (
    (1950, "福根生金水土木仁义德寿顺财贵祥兴旺发全有明昌"),
    (1970, "国建军华民强志明平林海荣勇忠卫东光永庆祖良伟"),
    (1990, "伟强磊军杰勇涛斌波辉刚鹏飞超健俊峰亮海洋浩"),
    (2100, "浩宇轩子涵博文泽俊睿梓辰一诺铭奕晨旭嘉豪昊天"),
)
_FEMALE = (
    (1950, "香兰花凤英梅菊秀娥妹珠翠金玉银莲桂彩素月"),
    (1970, "秀英玉兰桂芳春梅凤仙爱珍美华素琴红丽萍云霞"),
    (1990, "丽娟敏静燕艳芳霞娜玲婷慧莉倩雪梅洁琳颖佳"),
    (2100, "欣怡梓涵诗雨佳宁思琪可馨一诺若曦语桐雅婷子萱"),
)


def surname(rng: Random) -> str:
    """Draw a surname by frequency."""
    return rng.choices(_SURNAME, _SURNAME_WEIGHT)[0]


def given(rng: Random, sex: str, born: int) -> str:
    """Draw a given name for ``sex`` ('male'|'female') and year of birth; two characters four times out of five."""
    table = _MALE if sex == "male" else _FEMALE
    characters = next(chars for before, chars in table if born < before)
    return "".join(rng.choice(characters) for _ in range(1 if rng.random() < 0.2 else 2))


def full(rng: Random, sex: str, born: int, family: str | None = None) -> str:
    """Draw a full name, with ``family`` as the surname when given."""
    return (family or surname(rng)) + given(rng, sex, born)
