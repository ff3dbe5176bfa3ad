"""``Location.near=latitude|longitude[|distance[|units]]``: places within a distance, on a sphere."""

from math import cos, radians

from lianxin.record.definitions import Param
from lianxin.record.query.base import Context, Sql, any_of, bad, bad_modifier, plain, split
from lianxin.record.query.kinds import numbers

EARTH = 6_371.0088  # mean radius, km
DEFAULT = 50.0  # km
KILOMETRES = {"": 1.0, "km": 1.0, "m": 0.001, "[mi_us]": 1.609347219, "[mi_i]": 1.609344}


def near(
    ctx: Context, rtype: str, param: Param, name: str, modifier: str, given: list[str], alias: str
) -> Sql:
    """Condition on the two number rows of a position (item 1 latitude, item 2 longitude, degrees)."""
    if modifier:
        raise bad_modifier(name, modifier)
    (number,) = numbers(rtype, param.code)
    return any_of([_one(number, name, value, alias) for value in given])


def _one(number: int, name: str, value: str, alias: str) -> Sql:
    parts = [plain(p).strip() for p in split(value, "|")]
    try:
        latitude, longitude = float(parts[0]), float(parts[1])
        distance = float(parts[2]) if len(parts) > 2 and parts[2] else DEFAULT
        distance *= KILOMETRES[parts[3] if len(parts) > 3 else ""]
        if not (
            abs(latitude) <= 90 and abs(longitude) <= 180 and 0 <= distance <= 50_000 and len(parts) <= 4
        ):
            raise ValueError
    except (ValueError, IndexError, KeyError):
        raise bad(name, "应为 纬度|经度|距离|km", "write latitude|longitude|distance|km") from None
    band = distance / 111.0 + 0.001  # degrees of latitude: only rows in it are measured
    return (
        f"EXISTS (SELECT 1 FROM record_quantity g JOIN record_quantity h ON h.rid = g.rid AND h.number = g.number AND h.item = 2"
        f" WHERE g.rid = {alias}.rid AND g.number = %s AND g.item = 1 AND g.lo BETWEEN %s AND %s"
        f" AND 2 * {EARTH} * asin(least(1, sqrt(power(sin(radians(g.lo - %s) / 2), 2)"
        f" + %s * cos(radians(g.lo)) * power(sin(radians(h.lo - %s) / 2), 2)))) <= %s)",
        [number, latitude - band, latitude + band, latitude, cos(radians(latitude)), longitude, distance],
    )
