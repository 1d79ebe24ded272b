from .registry import TABLES as TABLES
from .registry import reference as reference
from .schema import Column as Column
from .schema import Table as Table
