"""Python values on the wire: what JSON cannot say goes as exact EDN."""

from __future__ import annotations

import base64
import datetime as dt
import decimal
import math
import uuid
from typing import Any

_EXACT = 2**53


class Keyword(str):
    """``:ns/name``, written with its colon: ``Keyword(":order/placed")``."""

    def __new__(cls, text: str) -> "Keyword":
        return super().__new__(cls, text if text.startswith(":") else f":{text}")


class Edn(str):
    """Any value, as its EDN text: ``Edn("#{1 2}")``."""


def to_json(value: Any) -> Any:
    """``value`` as the server reads it without a schema."""
    if isinstance(value, Edn):
        return {"#edn": str(value)}
    if isinstance(value, Keyword):
        return str(value)
    if isinstance(value, str):
        return {"#string": value} if value.startswith(":") else value
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return value if abs(value) <= _EXACT else {"#edn": str(value) if -(2**63) <= value < 2**63 else f"{value}N"}
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, decimal.Decimal):
        return {"#edn": f"{value:f}M"}
    if isinstance(value, dt.datetime):
        if value.tzinfo is None:
            raise ValueError("a datetime needs a time zone: the database keeps instants")
        return {"#edn": f'#inst "{value.astimezone(dt.timezone.utc).isoformat().replace("+00:00", "Z")}"'}
    if isinstance(value, uuid.UUID):
        return {"#edn": f'#uuid "{value}"'}
    if isinstance(value, (bytes, bytearray)):
        return {"#edn": f'#bytes "{bytes(value).hex()}"'}
    if isinstance(value, dict):
        return {str(k): to_json(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [to_json(v) for v in value]
    raise TypeError(f"no EDN for {type(value).__name__}")


def to_tx(value: Any) -> Any:
    """A form of a transaction: the schema decides, so strings stay strings."""
    if isinstance(value, dict):
        return {str(k): to_tx(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [to_tx(v) for v in value]
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(bytes(value)).decode()
    if isinstance(value, dt.datetime):
        return value.isoformat()
    if isinstance(value, (uuid.UUID, decimal.Decimal)):
        return str(value)
    if isinstance(value, Edn):
        return {"#edn": str(value)}
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > _EXACT:
        return str(value)
    if isinstance(value, float):
        return _float(value)
    return value


def _float(value: float) -> Any:
    """A float: JSON has no infinities, and the database no not-a-number."""
    if math.isnan(value):
        raise ValueError("not-a-number is no value: it equals nothing and could never be found again")
    return value if math.isfinite(value) else {"#edn": "##Inf" if value > 0 else "##-Inf"}
