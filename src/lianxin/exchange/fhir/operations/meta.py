"""$meta, $meta-add and $meta-delete: the profiles, tags and security labels of one resource.

Adding and deleting make a new version like any other change: readers, ETags, the history and subscriptions must see that a label
has come or gone.  What changes nothing makes none.
"""

from typing import Any

from lianxin.access import connections
from lianxin.access.scope import Scope
from lianxin.exchange.fhir import gate, handlers
from lianxin.exchange.fhir.handlers import Request, Response
from lianxin.record import bundle as bundling
from lianxin.record import store, text
from lianxin.record.json_tree import Node
from lianxin.record.problems import refuse
from lianxin.record.store import Write

LISTS = ("profile", "security", "tag")
DEFINITIONS = "http://hl7.org/fhir/OperationDefinition/Resource-meta"


def register() -> None:
    """Offer the three on every resource."""
    handlers.register_operation(
        handlers.EVERY_TYPE, "meta", show, affects_state=False, type_level=False, definition=DEFINITIONS
    )
    handlers.register_operation(
        handlers.EVERY_TYPE, "meta-add", add, type_level=False, definition=f"{DEFINITIONS}-add"
    )
    handlers.register_operation(
        handlers.EVERY_TYPE, "meta-delete", delete, type_level=False, definition=f"{DEFINITIONS}-delete"
    )


def show(scope: Scope, asked: Request) -> Response:
    """``GET Type/id/$meta``."""
    rid = asked.id or ""

    def work(cur: Any) -> store.Result | None:
        found = store.read(cur, scope, asked.rtype, rid)
        if found is not None:
            gate.note(cur, scope, "read", [found])
        return found

    found = connections.reading(work)
    if found is None:
        raise gate.absent(asked.rtype, rid)
    if found.deleted:
        raise gate.gone(asked.rtype, rid)
    return _answer(found.body)


def _answer(body: str) -> Response:
    meta = bytes(text.members(body.encode())["meta"]).decode()
    part = f'{{"name":"return","valueMeta":{meta}}}'
    return Response(200, f'{{"resourceType":"Parameters","parameter":[{part}]}}')


def add(scope: Scope, asked: Request) -> Response:
    """Add profiles, tags and labels that are not there yet."""
    return _change(scope, asked, adding=True)


def delete(scope: Scope, asked: Request) -> Response:
    """Take away profiles, tags and labels (a tag is told by its system and code)."""
    return _change(scope, asked, adding=False)


def _same(one: Any, two: Any) -> bool:
    if isinstance(one, dict) and isinstance(two, dict):
        return (one.get("system"), one.get("code")) == (two.get("system"), two.get("code"))
    return bool(one == two)


def _change(scope: Scope, asked: Request, *, adding: bool) -> Response:
    given = asked.argument("meta", dict)
    if given is None:
        raise refuse(
            400,
            "required",
            "缺少参数 meta",
            "the parameter meta is missing",
            "Parameters.parameter.where(name='meta')",
        )
    rid = asked.id or ""

    def work(cur: Any) -> str:
        current = bundling.patchable(cur, scope, asked.rtype, rid)
        root = Node(current.body.encode())
        meta = root.members()["meta"].members()
        changed = False
        for name in LISTS:
            some = meta[name].elements() if name in meta else []
            for one in given.get(name) or []:
                there = [n for n in some if _same(n.value(), one)]
                if adding and not there:
                    some.append(Node.of(one))
                elif not adding and there:
                    some[:] = [n for n in some if n not in there]
                else:
                    continue
                changed = True
            meta[name] = Node.of(some)
            if not some:
                del meta[name]
        if not changed:
            return current.body
        raw = root.text()
        resource = bundling.patched(raw, asked.rtype, rid, strict=scope.strict)
        wanted = Write(
            "update", asked.rtype, rid, resource, raw, if_match=f'W/"{current.version}"', trusted=True
        )
        result = store.apply(cur, scope, [wanted])[0]
        gate.note(cur, scope, "update", [result])
        return result.body

    return _answer(gate.writing(work))
