"""Code 128 bar codes as SVG (ISO/IEC 15417): digits in pairs (set C) where that is shorter, else set B."""

from __future__ import annotations

from html import escape

_WIDTHS = [
    "212222",
    "222122",
    "222221",
    "121223",
    "121322",
    "131222",
    "122213",
    "122312",
    "132212",
    "221213",
    "221312",
    "231212",
    "112232",
    "122132",
    "122231",
    "113222",
    "123122",
    "123221",
    "223211",
    "221132",
    "221231",
    "213212",
    "223112",
    "312131",
    "311222",
    "321122",
    "321221",
    "312212",
    "322112",
    "322211",
    "212123",
    "212321",
    "232121",
    "111323",
    "131123",
    "131321",
    "112313",
    "132113",
    "132311",
    "211313",
    "231113",
    "231311",
    "112133",
    "112331",
    "132131",
    "113123",
    "113321",
    "133121",
    "313121",
    "211331",
    "231131",
    "213113",
    "213311",
    "213131",
    "311123",
    "311321",
    "331121",
    "312113",
    "312311",
    "332111",
    "314111",
    "221411",
    "431111",
    "111224",
    "111422",
    "121124",
    "121421",
    "141122",
    "141221",
    "112214",
    "112412",
    "122114",
    "122411",
    "142112",
    "142211",
    "241211",
    "221114",
    "413111",
    "241112",
    "134111",
    "111242",
    "121142",
    "121241",
    "114212",
    "124112",
    "124211",
    "411212",
    "421112",
    "421211",
    "212141",
    "214121",
    "412121",
    "111143",
    "111341",
    "131141",
    "114113",
    "114311",
    "411113",
    "411311",
    "113141",
    "114131",
    "311141",
    "411131",
    "211412",
    "211214",
    "211232",
    "2331112",
]
_START_B, _START_C, _TO_B, _TO_C, _STOP = 104, 105, 100, 99, 106


def values(text: str) -> list[int]:
    """The symbol values of a text with start, check and stop. ValueError for characters outside printable ASCII or no text."""
    if not text or any(not " " <= c <= "~" for c in text):
        raise ValueError("Code 128 writes printable ASCII")
    out: list[int] = []
    in_c, i = False, 0
    while i < len(text):
        run = _digits(text, i)
        if run >= 4 or (in_c and run >= 2) or (run == len(text) and run % 2 == 0):
            if not in_c:
                if run % 2:  # an odd run: its first digit stays in set B
                    out += [_START_B] if not out else []
                    out.append(ord(text[i]) - 32)
                    i += 1
                    run -= 1
                out.append(_TO_C if out else _START_C)
                in_c = True
            for _ in range(run // 2):
                out.append(int(text[i : i + 2]))
                i += 2
            continue
        if in_c or not out:
            out.append(_TO_B if out else _START_B)
            in_c = False
        out.append(ord(text[i]) - 32)
        i += 1
    check = (out[0] + sum(n * v for n, v in enumerate(out[1:], 1))) % 103
    return [*out, check, _STOP]


def _digits(text: str, start: int) -> int:
    end = start
    while end < len(text) and text[end] in "0123456789":
        end += 1
    return end - start


def svg(text: str, height: int = 40) -> str:
    """The bar code as an SVG of one unit a module with its quiet zones (ten modules)."""
    bars, x = [], 10
    for value in values(text):
        for n, width in enumerate(map(int, _WIDTHS[value])):
            if not n % 2:
                bars.append(f'<rect x="{x}" y="0" width="{width}" height="{height}"/>')
            x += width
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {x + 10} {height}" role="img" aria-label="{escape(text)}"'
        f' preserveAspectRatio="none" shape-rendering="crispEdges">{"".join(bars)}</svg>'
    )
