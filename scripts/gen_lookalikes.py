"""Make ``src/lianxin/index/normal/data/lookalikes.txt``: classes of characters that are taken for one another.

    python scripts/gen_lookalikes.py /usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc > …/lookalikes.txt

Two sources, both our own: a hand-written list of confusions known from typed names (``KNOWN``), and a measurement: each character
of GB 2312 and some of names is drawn with Noto Sans CJK SC (SIL Open Font License), blurred, and compared with all others; characters
whose every pair correlates at least ``ALIKE`` form a class. Two frequent surnames are never put together by measurement.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

ALIKE = 0.915
LARGEST = 6
SIZE, GRID, BLUR = 40, 24, 1.6

KNOWN = """
己已巳 未末 土士 干千于 日曰 大太犬 天夫 王玉主 人入 木本术 甲申 刀力 贝见 免兔 今令 冶治 析折 班斑
辩辨辫 历厉 准淮 拔拨 晴睛情清靖 扬场 佳住往 伟炜玮 琪琦淇 俊浚峻骏 静靓 萍苹 莉俐 婷停 娟捐涓 雯霞
慧惠 辉晖 建健 宇字 浩皓 风凤 霄宵 茜西 苗茁 阵陈 沉沈 洁结 刚钢纲 明朋 晓骁烧 玲铃伶 芳芬 兰蓝
梅海 候侯 问间闻 戊戌戍 竞竟 帅师 秦泰 尹伊 徽微 付傅 肖萧 闫阎 戴代 邱丘 祎炜 彬杉 琳淋林 玫玟
翔祥 燕蒸 盂孟 卢芦 崔雀 贾贸 祁祈 薛薜 栾峦 邢刑 汤扬 傅博 裴斐 季李 仁仨 丽俪 敏繁 波泼
涛焘 荣荥 蓉溶 华桦 君群 勤勒 宏弘 洪供 鸿鹏 瑞端 睿壑 旭旮 昊吴 昆昌 晟盛 曼蔓 柏伯 栋拣 楠榆
欣钦 毅殷 永水 泉皇 清渍 源原 滨宾 炳柄 焕换 焱炎 琼凉 璐潞 瑶遥 珍诊 盈盆 秀季 科料 程呈 立丘
竹付 笑竺 红虹 纯屯 绍召 绪诸 维唯 美羊 艳绝 芸芝 英央 茂戊 莹萤营 菊掬 菲韭 薇蔽 虎虚 诚城 谦嫌
豪毫 赟斌 超起 军车 轩轲 辰唇 达迖 进近 远运 逸免 钰玉 铭名 锋峰 锦绵 长张 阳阴 雅鸦 雪雷 霖森
青肯 顺须 飞气 馨磐 魁魅 黎犁 龙尤 喆哲 堃坤 淼渺 珺君 玥月 鑫金 垚尧 犇奔 骉彪 俞愈 俣候 倩情
嘉喜 园圆 国囯 坚竖 增曾 夏复 婉碗 娜那 嫒媛 宁丁 安妥 宗宋 尚向 云去 元无 波坡 周同 赵起 刘对
余佘 石右 史吏 毛手 贾买 任仁 龙尤 曹曾 袁哀 蔡菜 董薰 崔催 魏巍 卢户 根很 琴瑟 素索 世也
学字 光先 良艮 豪毫 辰晨 梁粱 诺若 怡治 涵函 泽择 萱宣 淑椒 芷止 贵责 财材 树村 庆床 唐康 翠卒
珠株 莲连 颖颍 蒋将 叶汁 熊能 邹邻 廖寥 姚桃 段断 郝赫 钱线 严亚 孔扎 雷雪 陶淘 黎犁 谭潭 薛薜
彭澎 谢榭 杜社 韦书 姜羌 莫英 贺贸 邵召 武式 吴昊 宝室 田由 辉挥 岚风 岩岸 川州 平乎 庆厌 康庚
廷延 彤丹 彦产 徐除 志忘 思恩 恒桓 悦说 惠蕙 成戌 才牙 振震 政攻 教孝 文又 斌武 方万 旺汪 春舂
景影 智知 曙署 有冇 望塱 朝潮 权杈 松忪
""".split()  # noqa: SIM905 - a list that people read and extend

RARE = "玥喆堃珺婳翀赟祎垚犇骉淼焱鑫煊烜熠燊頔颢皞玙珮瑄琬琰璟瑀瑢瑨璠璐婕妍嫣媗娴媛婳姝妤姣俐媖甯"


def drawn(chars: list[str], font_path: str) -> np.ndarray:
    """Rows of unit length: each character as a blurred picture."""
    font = ImageFont.truetype(font_path, SIZE, index=2)
    rows = []
    for char in chars:
        image = Image.new("L", (SIZE + 8, SIZE + 8), 0)
        ImageDraw.Draw(image).text((4, -4), char, font=font, fill=255)
        image = image.filter(ImageFilter.GaussianBlur(BLUR)).resize((GRID, GRID))
        rows.append(np.asarray(image, dtype=np.float32).ravel())
    matrix = np.stack(rows)
    matrix -= matrix.mean(axis=1, keepdims=True)
    return matrix / np.linalg.norm(matrix, axis=1, keepdims=True)


def known() -> list[str]:
    """The hand-written classes; a character belongs to the first one that names it, and chains are not followed."""
    out, seen = [], set()
    for line in KNOWN:
        kept = "".join(c for c in line if c not in seen)
        if len(kept) > 1:
            out.append(kept)
            seen |= set(kept)
    return out


def main() -> None:
    """Write the file to standard output."""
    root = Path(__file__).parents[1] / "src/lianxin/index/normal/data"
    surnames = set("".join((root / "surnames.txt").read_text("utf-8").split("\n")[2:4]))
    gb = {
        bytes((high, low)).decode("gb2312", "ignore")
        for high in range(0xB0, 0xF8)
        for low in range(0xA1, 0xFF)
    }
    classes = known()
    taken = set("".join(classes))
    chars = sorted((gb | set(RARE)) - {""})
    picture = drawn(chars, sys.argv[1])
    place = {c: n for n, c in enumerate(chars)}
    alike = picture @ picture.T
    groups = [[place[c] for c in line if c in place] for line in classes]
    where = {n: g for g, group in enumerate(groups) for n in group}
    above = np.argwhere(np.triu(alike >= ALIKE, 1))
    for a, b in sorted(above.tolist(), key=lambda p: -float(alike[p[0], p[1]])):
        for n in (a, b):
            if n not in where:
                where[n] = len(groups)
                groups.append([n])
        one, two = where[a], where[b]
        together = groups[one] + groups[two]
        names = sum(chars[n] in surnames for n in together)
        if (
            one == two
            or len(together) > LARGEST
            or names > 1
            or (any(chars[n] in taken for n in groups[two]) and any(chars[n] in taken for n in groups[one]))
        ):
            continue
        if alike[np.ix_(groups[one], groups[two])].min() < ALIKE:
            continue
        groups[one] = together
        for n in groups[two]:
            where[n] = one
        groups[two] = []
    print(
        "# Characters that are taken for one another: a line is a class, its first character stands for it. Made by scripts/gen_lookalikes.py"
    )
    print(
        "# from a hand-written list and a comparison of glyphs drawn with Noto Sans CJK SC (SIL OFL); our own work otherwise."
    )
    for line, group in zip(classes, groups, strict=False):
        extra = [chars[n] for n in group if chars[n] not in line]
        print(line + "".join(extra))
    for group in groups[len(classes) :]:
        if len(group) > 1:
            print("".join(chars[n] for n in group))


if __name__ == "__main__":
    main()
