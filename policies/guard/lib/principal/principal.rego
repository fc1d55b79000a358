# METADATA
# scope: package
# title: Who acts
# description: Whether the principal of a request has an identity, and whether it has a role.
package guard.lib.principal

import rego.v1

# White space and characters that cannot be seen, around a name or alone, are no name.
is_identified(request) if {
	is_string(request.principal.id)
	hidden := " \t\r\n\u00a0\u00ad\u200b\u200c\u200d\u2060\ufeff"
	name := lower(trim_left(trim_right(request.principal.id, hidden), hidden))
	not name in {"", "anonymous"}
}

has_role(request, roles) if {
	is_array(request.principal.roles)
	is_array(roles)
	some role in request.principal.roles
	role in roles
}
