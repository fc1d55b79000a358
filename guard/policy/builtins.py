"""The built-ins a policy may call: pure, the same in OPA and in the embedded engine.

Nothing here does I/O, reads a clock, draws a random number or looks at the process. A test calls
every one of them in the embedded engine, and asks a real OPA whether it knows the name.
"""

from __future__ import annotations

from typing import Final

__all__ = ["ALLOWED_BUILTINS"]

ALLOWED_BUILTINS: Final = frozenset(
    """
    abs ceil floor round numbers.range walk
    count max min sum product sort
    array.concat array.reverse array.slice
    intersection union
    object.filter object.get object.keys object.remove object.subset object.union
    concat contains endswith format_int indexof indexof_n lower replace split sprintf startswith
    strings.any_prefix_match strings.any_suffix_match strings.count strings.replace_n
    strings.reverse substring trim trim_left trim_prefix trim_right trim_space trim_suffix upper
    regex.match regex.is_valid regex.replace regex.split
    is_array is_boolean is_null is_number is_object is_set is_string type_name
    to_number
    base64.decode base64.encode base64.is_valid base64url.decode hex.decode hex.encode
    json.is_valid json.marshal json.unmarshal urlquery.decode urlquery.encode
    glob.match net.cidr_contains
    bits.and bits.or
    time.clock time.date time.weekday time.parse_rfc3339_ns time.add_date
    """.split()
)
