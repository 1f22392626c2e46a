"""A client of the Annals temporal fact database.

Pure HTTP over the standard library. A :class:`Database` names a database on a
server; :meth:`Database.as_of` gives a view of it at another time, with the same
methods, as in the library::

    db = annals_client.connect("http://127.0.0.1:7407", "orders")
    report = db.transact('[{:order/id "A-1" :order/status :placed}]')
    rows = db.query("[:find ?s :in $ ?id :where [?o :order/id ?id] [?o :order/status ?s]]", "A-1")
    then = db.as_of(report.t).query(...)

What the server refuses is raised as :class:`Problem`, with its stable ``code``.
"""

from ._client import Change, Database, Problem, Report, Rows, Snapshot, connect
from ._values import Edn, Keyword

__all__ = ["Change", "Database", "Edn", "Keyword", "Problem", "Report", "Rows", "Snapshot", "connect"]
__version__ = "0.1.0"
