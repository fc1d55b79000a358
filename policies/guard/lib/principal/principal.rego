# METADATA
# scope: package
# title: Who acts
# description: Whether the principal has an identity, and its roles.
package guard.lib.principal

import rego.v1

# White space and invisible characters around a name are no name.
_invisible := " \t\r\n\u00a0\u00ad\u200b\u200c\u200d\u2060\ufeff"

is_identified if {
	is_string(input.principal.id)
	not trim(lower(input.principal.id), _invisible) in {"", "anonymous"}
}

has_role(roles) if {
	is_array(input.principal.roles)
	is_array(roles)
	some role in input.principal.roles
	role in roles
}
