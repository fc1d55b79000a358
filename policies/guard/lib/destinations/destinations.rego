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

are_inside(request, domains) if {
	is_array(domains)
	is_array(request.tool.destinations)
	named := [value | some name in request.tool.destinations; value := request.args[name]]
	values := [value | some entry in named; some value in _values(entry)]
	count(values) > 0
	every value in values {
		_is_inside(value, domains)
	}
}

pointers := [pointer.below("args", [name]) |
	is_array(input.tool.destinations)
	some name in input.tool.destinations
	_ = input.args[name]
]

# An argument that is null names no destination, as if it had been left out.
_values(entry) := entry if is_array(entry)

_values(entry) := [] if is_null(entry)

_values(entry) := [entry] if {
	not is_array(entry)
	not is_null(entry)
}

# No quotes, comments, lists, display names, `%` or `!` routes, or letters beyond ASCII: each has
# been read by some mail program as another address than the one that was checked.
_is_inside(value, domains) if {
	is_string(value)
	address := trim_space(value)
	regex.match(`^[A-Za-z0-9._+'-]+@[A-Za-z0-9.-]+$`, address)
	lower(split(address, "@")[1]) in domains
}
