"""From search parameters to SQL: one condition per ``name=value``, on an alias of ``record_resource``.

``base`` has what all share, ``kinds`` the makers by parameter type, ``conditions`` the dispatch by name, ``links`` chains and
``_has``, ``hierarchy`` what lies above and below, ``order`` sorting and the page cursor, ``include`` what comes along,
``compartments`` the five compartments, ``filters`` the ``_filter`` language.
Values are always bound; nothing of a request becomes SQL text.
"""

from lianxin.record.query.base import Context, UnknownParameter
from lianxin.record.query.conditions import condition

__all__ = ["Context", "UnknownParameter", "condition"]
