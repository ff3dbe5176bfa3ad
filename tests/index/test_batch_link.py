"""Everybody linked at once: the same pairs, bits and verdicts as online, groups that hold nobody twice, and weights that are learned."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lianxin.access.errors import Invalid
from lianxin.index.batch import cluster, link, statements, train, versions
from lianxin.index.batch.differences import Join, Split, differences
from lianxin.index.batch.link import Linked
from lianxin.index.form import Form
from lianxin.index.match import keys, policy, score
from lianxin.index.match.levels import FIELDS, compare
from lianxin.index.match.memory import MemoryIndex
from lianxin.index.match.model import DEFAULT, POLICY
from tests.index import batch_data as data


def test_a_pattern_is_its_levels_and_kinds() -> None:
    vector = tuple(size - 1 for size in statements.SIZES)
    code, weight = 0, 1
    for level, size in zip(vector, statements.SIZES, strict=True):
        code += level * weight
        weight *= size
    assert statements.vector_of(code) == (vector[:-3], *vector[-3:])


def test_the_engine_finds_the_pairs_that_share_a_key_and_scores_them_as_online(tmp_path: Path) -> None:
    forms, model = data.forms()[:400], data.model()
    duck = data.duck(tmp_path, forms)
    link.prepare(duck, model)
    link.block(duck)
    link.slice_pairs(duck, 1, 0)
    part = duck.columns("SELECT l, r FROM part")
    found = set(zip(part["l"].tolist(), part["r"].tolist(), strict=True))
    held = [set(keys.keys_of(form)) for form in forms]
    assert found == {(i + 1, j + 1) for i, j in combinations(range(len(forms)), 2) if held[i] & held[j]}

    everything = duck.columns(
        statements.all_scored(model, duck.nested(statements.everything(duck.dialect))) + " ORDER BY 1, 2"
    )
    pairs = link.Pairs.of([everything])
    verdict, kind, kinds = link.judged(pairs, model)
    expected = {}
    for n in range(len(pairs.bits)):
        a, b = forms[pairs.left[n] - 1], forms[pairs.right[n] - 1]
        vector = compare(a, b)
        twins = int(a.twin != 0 or b.twin != 0)
        assert statements.vector_of(int(pairs.pattern[n])) == (vector, a.kind, b.kind, twins)
        assert pairs.bits[n] == pytest.approx(score.levels_bits(vector, a, b, model), abs=1e-6)
        found = policy.judge(a, policy.Candidate(1, [b]), model)
        wanted = (found.verdict, found.kind) if found is not None else (policy.NO, "")
        assert (verdict[n], kinds[kind[n]]) == wanted
        expected[pairs.left[n], pairs.right[n]] = wanted[0]
    # What the quick bound drops would not have been looked at.
    kept = duck.columns(statements.scored(model, duck.nested(statements.hopeful(model, duck.dialect))))
    looked = set(zip(kept["l"].tolist(), kept["r"].tolist(), strict=True))
    assert {pair for pair, said in expected.items() if said != policy.NO} <= looked


def test_batch_and_online_make_the_same_people(tmp_path: Path) -> None:
    forms, model = data.forms(), data.model()
    linked = link.link(data.duck(tmp_path, forms), model)
    online = MemoryIndex(model)
    people = [online.register(form) for form in forms]
    people = [online.person(p) for p in people]
    assert linked.rid.tolist() == list(range(1, len(forms) + 1))
    assert data.agreement(linked.label.tolist(), people) >= 0.995
    truth = data.labelled().people
    assert data.agreement(linked.label.tolist(), truth) >= data.agreement(people, truth) - 0.003


def test_slices_do_not_change_the_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forms = data.forms()[:500]
    whole = link.link(data.duck(tmp_path, forms), data.model())
    monkeypatch.setattr(link, "SLICE", 90)
    (tmp_path / "again").mkdir()
    parts = link.link(data.duck(tmp_path / "again", forms), data.model())
    for name in ("label", "left", "right", "pattern", "kind"):
        assert getattr(whole, name).tolist() == getattr(parts, name).tolist()


def test_a_crowded_key_tells_nothing_and_is_counted(tmp_path: Path) -> None:
    crowd = [
        Form(name=f"张{chr(0x4E00 + n)}", surname="张", given=chr(0x4E00 + n), pinyin=f"zhang{n}", born=19500101 + n, phone="13911112222")
        for n in range(POLICY["crowd"] + 20)
    ]  # fmt: skip
    duck = data.duck(tmp_path, crowd)
    linked = link.link(duck, DEFAULT)
    assert linked.figures["crowded_keys"] >= 1
    assert linked.figures["crowded_entries"] >= len(crowd)
    assert linked.figures["groups"] == len(crowd)


def test_nobody_without_a_name_is_grouped(tmp_path: Path) -> None:
    nobody = [Form(name="", kind=2, sex=1) for _ in range(300)]
    linked = link.link(data.duck(tmp_path, nobody), DEFAULT)
    assert linked.figures["pairs"] == 0
    assert len(set(linked.label.tolist())) == 300


def test_a_number_typed_for_everybody_joins_nobody(tmp_path: Path) -> None:
    found = link.link(data.duck(tmp_path, data.desks()), DEFAULT)
    assert len(set(found.label.tolist()[:4])) == 4


def test_what_people_have_said_wins(tmp_path: Path) -> None:
    forms, model = data.forms()[:300], data.model()
    plain = link.link(data.duck(tmp_path, forms), model)
    label = dict(zip(plain.rid.tolist(), plain.label.tolist(), strict=True))
    together = next((a, b) for a, b in combinations(label, 2) if label[a] == label[b])
    strangers = next((a, b) for a, b in combinations(label, 2) if label[a] != label[b])
    (tmp_path / "said").mkdir()
    said = link.link(data.duck(tmp_path / "said", forms), model, must=[strangers], apart=[together])
    label = dict(zip(said.rid.tolist(), said.label.tolist(), strict=True))
    assert label[together[0]] != label[together[1]]
    assert label[strangers[0]] == label[strangers[1]]


def test_settled_people_become_one_only_through_a_newcomer(tmp_path: Path) -> None:
    form = Form(
        name="欧阳文静", surname="欧阳", given="文静", pinyin="ouyangwenjing", fuzzy="ouyangwenjin", shape="欧阳文静",
        sex=2, born=19800312, id_type="01", id_no="110101198003120020", id_state=1, phone="13912345678",
    )  # fmt: skip
    known = link.link(data.duck(tmp_path, [form, form], [7, 8]), DEFAULT, settled=True)
    assert known.label.tolist() == [1, 2]
    assert len(known.left) == 1  # but a person is asked
    (tmp_path / "new").mkdir()
    joined = link.link(data.duck(tmp_path / "new", [form, form, form], [7, 8, 0]), DEFAULT, settled=True)
    assert joined.label.tolist() == [1, 1, 1]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_group_ever_holds_two_who_cannot_be_one(drawn: st.DataObject) -> None:
    n = drawn.draw(st.integers(2, 9))
    every = list(combinations(range(n), 2))
    chosen = drawn.draw(st.lists(st.sampled_from(every), unique=True))
    bits = drawn.draw(st.lists(st.integers(5, 30), min_size=len(chosen), max_size=len(chosen)))
    against = drawn.draw(st.lists(st.sampled_from(every), unique=True, max_size=4))
    vote = drawn.draw(
        st.lists(st.sampled_from([1, -1, cluster.NEVER]), min_size=len(against), max_size=len(against))
    )
    apart = drawn.draw(st.lists(st.sampled_from(every), unique=True, max_size=2))

    def columns(pairs: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
        both = np.array(pairs, dtype=np.int64).reshape(-1, 2)
        return both[:, 0], both[:, 1]

    links = cluster.Links(*columns(chosen), np.array(bits, dtype=float))
    votes = cluster.Votes(*columns(against), np.array(vote, dtype=np.int64))
    label = cluster.components(n, links.left, links.right)
    found = cluster.cluster(links, votes, label, join=8, margin=6, apart=apart)
    for a, b in every:
        if found.label[a] == found.label[b]:
            assert label[a] == label[b]
            assert ((a, b), cluster.NEVER) not in list(zip(against, vote, strict=True))
            assert (a, b) not in apart
    for k in range(len(chosen)):
        split = found.label[links.left[k]] != found.label[links.right[k]]
        assert split == (k in found.refused.tolist())
    again = cluster.cluster(links, votes, label, join=8, margin=6, apart=apart)
    assert again.label.tolist() == found.label.tolist()


def linked(pid: list[int], label: list[int], reviews: list[tuple[int, int]] = []) -> Linked:  # noqa: B006
    n = np.arange(1, len(pid) + 1)
    left, right = np.array([a for a, _ in reviews], dtype=int), np.array([b for _, b in reviews], dtype=int)
    zero = np.zeros(len(reviews), dtype=int)
    return Linked(n, np.array(pid), np.array(label), left, right, zero, zero, zero, [""])


def test_differences_keep_the_oldest_number_and_the_largest_part() -> None:
    found = differences(linked([5, 3, 3, 9, 4], [1, 1, 1, 4, 5], [(1, 4), (1, 2), (4, 5)]))
    assert found.joins == [Join(3, 5)]
    assert found.splits == []
    assert found.reviews == [0, 1, 2]
    found = differences(linked([7, 7, 7, 2, 0], [1, 1, 3, 3, 3]))
    assert found.joins == []
    assert found.splits == [Split(7, 2, (3,))]
    found = differences(linked([7, 7, 7], [1, 1, 3]))
    assert found.splits == [Split(7, None, (3,))]
    assert differences(linked([7, 7, 8], [1, 1, 3])).splits == []


def test_training_fits_better_and_is_the_same_each_time(tmp_path: Path) -> None:
    duck = data.duck(tmp_path, data.forms())
    first = train.train(duck, DEFAULT.for_people(500), "one")
    again = train.train(duck, DEFAULT.for_people(500), "one")
    assert first.weights == again.weights
    assert first.training["log_likelihood"] > first.training["log_likelihood_before"]
    assert first.training["forms"] == len(data.forms())
    assert {"patterns", "rounds", "pairs", "strangers"} <= set(first.training)
    counted = DEFAULT.with_frequencies(data.forms())
    for kind, table in counted.tf.items():
        assert first.tf[kind].hashes.tolist() == table.hashes.tolist()
        assert first.tf[kind].floor == table.floor


def test_training_needs_some_registrations(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 100"):
        train.train(data.duck(tmp_path, data.forms()[:20]), DEFAULT, "one")


def test_rarity_of_many_values_at_once_is_that_of_each() -> None:
    table = data.model().tf["name"]
    names = sorted({form.name for form in data.forms() if form.name})
    assert link._bits_of(table, np.array(names, dtype=object)).to_pylist() == [table.bits(n) for n in names]


def test_m_and_u_go_to_splink_and_come_back() -> None:
    import json

    text = json.dumps(versions.to_splink(DEFAULT))
    back = versions.from_splink(text, "back", DEFAULT)
    for field in FIELDS:
        assert back.weights[field] == pytest.approx(DEFAULT.weights[field], abs=0.011)
    assert back.prior == pytest.approx(DEFAULT.prior, abs=0.01)
    total = sum(
        level["m_probability"]
        for level in json.loads(text)["comparisons"][0]["comparison_levels"]
        if "m_probability" in level
    )
    assert total == pytest.approx(1.0)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"comparisons": 3}', '{"comparisons": []}', "null"])
def test_what_is_no_splink_model_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        versions.from_splink(text, "x", DEFAULT)


def test_keys_are_kept_as_the_engine_reads_them(tmp_path: Path) -> None:
    duck = data.duck(tmp_path, data.forms()[:50])
    found = duck.arrow("SELECT keys FROM source ORDER BY rid").column("keys").to_pylist()
    assert found == [keys.keys_of(form) for form in data.forms()[:50]]
    duck.put("other", pa.table({"x": [1]}))
    assert duck.columns("SELECT x FROM other")["x"].tolist() == [1]
