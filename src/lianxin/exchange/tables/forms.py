"""Forms of the pages: a new source, a file, the mapping."""

from __future__ import annotations

from typing import Any

from django import forms
from sqlalchemy.exc import SQLAlchemyError

from lianxin.exchange.tables import database, recognise
from lianxin.exchange.tables.database import Seen
from lianxin.exchange.tables.models import FILE, SQL, TableSource
from lianxin.exchange.tables.reading import Unreadable
from lianxin.exchange.tables.targets import Target, targets, values
from lianxin.standards.text import T

MOST_BYTES = 2 << 30
NAME_TAKEN = T("本机构已有同名的来源。", "The institution has a source with this name already.")
_PERIODS = {
    0: T("只在手工运行时", "By hand only"), 300: T("每 5 分钟", "Every 5 minutes"), 900: T("每 15 分钟", "Every 15 minutes"),
    3600: T("每小时", "Every hour"), 21600: T("每 6 小时", "Every 6 hours"), 86400: T("每天", "Every day"),
}  # fmt: skip


def file_field(required: bool = True) -> forms.FileField:
    """A file to upload."""
    return forms.FileField(
        required=required,
        label=T("文件", "File"),
        help_text=T(
            "CSV（UTF-8 或 GB18030，逗号、分号、制表符均可）或 .xlsx，最大 2 GB",
            "CSV (UTF-8 or GB 18030; comma, semicolon or tab) or .xlsx, 2 GB at most",
        ),
        error_messages={
            "required": T("请选择文件。", "Choose a file."),
            "empty": T("文件是空的。", "The file is empty."),
            "invalid": T("没有收到文件，请重新选择。", "No file came; choose it again."),
        },
    )


class Form(forms.Form):
    """Our labels end without a colon, and what is required says so in both languages."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.label_suffix = ""
        for one in self.fields.values():
            one.error_messages.setdefault(
                "required", T("此项必填，请填写。", "This is required; please fill it in.")
            )
            if not isinstance(one, forms.FileField):
                one.error_messages["required"] = T(
                    "此项必填，请填写。", "This is required; please fill it in."
                )


class UploadForm(Form):
    """One more file of a source."""

    file = file_field()

    def clean_file(self) -> Any:
        """Not too large."""
        given = self.cleaned_data["file"]
        if given.size > MOST_BYTES:
            raise forms.ValidationError(T("文件超过 2 GB，请拆分。", "Larger than 2 GB; split it."))
        return given


class FileSourceForm(UploadForm):
    """A new source that comes as files."""

    name = forms.CharField(
        max_length=120, label=T("来源名称", "Name of the source"),
        help_text=T("如：检验科月度导出", "Such as: monthly export of the laboratory"),
    )  # fmt: skip
    target = forms.ChoiceField(label=T("内容", "What it is"), required=False)
    field_order = ("name", "target", "file")

    def __init__(self, *args: Any, institution_id: int | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._institution_id = institution_id or 0
        self.fields["target"].choices = [("", T("按列名自动判断", "Told from the names of the columns"))] + [  # type: ignore[attr-defined]
            (t.code, t.name) for t in targets().values()
        ]

    def clean_name(self) -> str:
        """Not taken yet."""
        name: str = " ".join(self.cleaned_data["name"].split())
        if TableSource.objects.filter(institution_id=self._institution_id, name=name).exists():
            raise forms.ValidationError(NAME_TAKEN)
        return name


class ViewSourceForm(Form):
    """A new source that is a view of a database."""

    name = forms.CharField(max_length=120, label=T("来源名称", "Name of the source"))
    target = forms.ChoiceField(label=T("内容", "What it is"))
    url = forms.CharField(
        max_length=500, label=T("数据库地址", "Address of the database"),
        help_text=T("如 postgresql://reader:password@10.1.2.3:5432/his；mysql、mssql、oracle 同理。口令加密保存，页面不再显示。",
                    "Such as postgresql://reader:password@10.1.2.3:5432/his; mysql, mssql and oracle likewise. The password is sealed and never shown again."),
        widget=forms.PasswordInput(attrs={"autocomplete": "off"}, render_value=False),
    )  # fmt: skip
    view = forms.CharField(
        max_length=260,
        label=T("视图或表", "View or table"),
        help_text=T("如 dbo.v_lab_result", "Such as dbo.v_lab_result"),
    )
    mark_column = forms.CharField(
        max_length=130, required=False, label=T("水位列", "Watermark column"),
        help_text=T("只增不减的更新时间或流水号；不填则每次读全部", "A time of change or a number that only grows; without one everything is read each time"),
    )  # fmt: skip
    overlap = forms.IntegerField(
        min_value=0, max_value=10_000_000, initial=3600, label=T("重叠", "Overlap"),
        help_text=T("每次从水位之前多远重读（时间为秒，流水号为个数），重读的行不会重复入库", "How far before the watermark each run begins (seconds, or numbers); rows read again are not stored twice"),
    )  # fmt: skip
    every = forms.TypedChoiceField(
        coerce=int, choices=list(_PERIODS.items()), initial=0, label=T("多久一次", "How often")
    )

    def __init__(self, *args: Any, institution_id: int | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._institution_id = institution_id or 0
        self.columns: list[Seen] = []
        self.fields["target"].choices = [(t.code, t.name) for t in targets().values()]  # type: ignore[attr-defined]

    clean_name = FileSourceForm.clean_name

    def made(self, source: TableSource) -> bool:
        """Fill a source from the form and look at the view; False when it cannot be read (the form says why)."""
        given = self.cleaned_data
        source.name, source.target, source.kind = given["name"], given["target"], SQL
        source.view, source.overlap, source.every = given["view"].strip(), given["overlap"], given["every"]
        try:
            url = database.address(given["url"])
            database.keep_address(source, url)
            with database.connected(source) as connection:
                self.columns = database.look(connection, source.view)
        except Unreadable as failure:
            self.add_error(
                "view" if isinstance(failure, database.Unreachable) and source.url else "url", failure.text
            )
            return False
        except (SQLAlchemyError, OSError):
            self.add_error("url", T("连接不上数据库。", "The database cannot be reached."))
            return False
        mark = given["mark_column"].strip()
        if mark:
            found = next((c for c in self.columns if c.name.casefold() == mark.casefold()), None)
            if found is None or not found.mark:
                self.add_error("mark_column", T("视图没有这一列，或它不是时间也不是整数。", "The view has no such column, or it is neither a time nor a whole number."))  # fmt: skip
                return False
            source.mark_column, source.mark_kind = found.name, found.mark
        return True


class MappingForm:
    """The mapping as the page shows it: for each column of the target the column of the file, a value for empty cells, own words."""

    def __init__(
        self, target: Target, rules: dict[str, Any], names: list[str], seen: dict[str, list[str]]
    ) -> None:
        self.target, self.rules, self.names, self.seen = target, rules, names, seen

    def rows(self) -> list[dict[str, Any]]:
        """What each line of the page shows."""
        out = []
        for column in self.target.columns.values():
            chosen = self.rules["columns"].get(column.name, "")
            words = []
            if column.values and chosen:
                own = self.rules.get("values", {}).get(column.name, {})
                words = [(w, recognise.meaning(column, w, own) or "") for w in self.seen.get(chosen, ())]
                words += [(w, code) for w, code in own.items() if w not in self.seen.get(chosen, ())]
            out.append({
                "column": column, "chosen": chosen if chosen in self.names else "", "lost": chosen if chosen and chosen not in self.names else "",
                "default": self.rules.get("defaults", {}).get(column.name, ""), "shown_default": column.default, "required": column.name in self.target.require,
                "examples": [v for v in self.seen.get(chosen, ()) if v][:3], "words": words,
                "codes": [(v.code, v.label) for v in values(column.values).values()] if column.values else [],
            })  # fmt: skip
        return out

    @classmethod
    def read(cls, target: Target, rules: dict[str, Any], post: Any) -> dict[str, Any]:
        """The rules that were sent."""
        chosen = {n: post.get(f"column-{n}", "")[:200] for n in target.columns if post.get(f"column-{n}")}
        defaults = {
            n: post.get(f"default-{n}", "").strip()[:200]
            for n in target.columns
            if post.get(f"default-{n}", "").strip()
        }
        own: dict[str, dict[str, str]] = {}
        for name, column in target.columns.items():
            if not column.values:
                continue
            words, codes = post.getlist(f"word-{name}"), post.getlist(f"code-{name}")
            told = {
                w[:100]: c
                for w, c in zip(words, codes, strict=False)
                if w and c and recognise.meaning(column, w, {}) != c
            }
            if told:
                own[name] = told
        return {**rules, "columns": chosen, "defaults": defaults, "values": own}


KINDS = {FILE: T("文件", "Files"), SQL: T("数据库视图", "A view of a database")}
PERIODS = _PERIODS
