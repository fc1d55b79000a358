# METADATA
# scope: package
# title: Where a tool call sends data
# description: >-
#   The values of the declared destination arguments. A destination is inside only when it is one
#   plain e-mail address whose whole domain is listed (lower case); what cannot be read as one is
#   outside, and a call that names no destination at all goes outside.
package guard.lib.destinations

import rego.v1

import data.guard.lib.pointer

# No quotes, comments, lists, display names, `%` or `!` routes, or letters beyond ASCII: each has
# been read by some mail program as another address than the one that was checked.
_address := `^[A-Za-z0-9._+'-]+@[A-Za-z0-9.-]+$`

are_inside(domains) if {
	is_array(domains)
	count(_values) > 0
	every value in _values {
		_is_inside(value, domains)
	}
}

pointers := [pointer.of(["args", name]) |
	some name in _names
	_ = input.args[name]
]

_is_inside(value, domains) if {
	is_string(value)
	address := trim_space(value)
	regex.match(_address, address)
	lower(split(address, "@")[1]) in domains
}

_names contains name if {
	is_array(input.tool.destinations)
	some name in input.tool.destinations
}

# An argument that is null names no destination, as if it had been left out.
_values contains value if {
	some name in _names
	value := input.args[name]
	value != null
	not is_array(value)
}

_values contains value if {
	some name in _names
	is_array(input.args[name])
	some value in input.args[name]
}
