# METADATA
# scope: package
# title: JSON pointers
# description: The RFC 6901 pointer of a path of keys and indexes below one key of the input.
package guard.lib.pointer

import rego.v1

below(key, path) := concat("/", array.concat(["", key], [_token(part) | some part in path]))

_token(part) := replace(replace(part, "~", "~0"), "/", "~1") if is_string(part)

_token(part) := format_int(part, 10) if is_number(part)
