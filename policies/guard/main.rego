# METADATA
# scope: package
# title: The answer of the policies
# description: >-
#   The only entry point. It unites the verdicts and facts of the rules in scope of the point and
#   the tool. The loader makes the scope table from the METADATA of the rules.
package guard

import rego.v1

verdicts contains verdict if {
	some rule in _scope
	some verdict in data.guard.rules[rule].verdicts
}

facts contains fact if {
	some rule in _scope
	some fact in data.guard.rules[rule].facts
}

_scope contains rule if some rule in data.guard_scope[input.point]["*"]

_scope contains rule if some rule in data.guard_scope[input.point][input.tool.name]
