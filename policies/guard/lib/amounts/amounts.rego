# METADATA
# scope: package
# title: Amounts of money in the arguments of a tool
# description: >-
#   Finds every argument with one of the given names, however deep, in any case and with white space
#   around it, as a lenient tool would. A name with other changes is no amount to any tool.
package guard.lib.amounts

import rego.v1

found(names) := [amount |
	is_array(names)
	walk(input.args, [path, value])
	key := path[count(path) - 1]
	is_string(key)
	name := lower(trim_space(key))
	name in names
	amount := {"name": name, "path": path, "value": value}
]

is_positive(value) if {
	is_number(value)
	value > 0
}

# Two arguments with different names may say the same amount twice; two with one name are two
# payments, and count together.
totals(amounts) := {total |
	some name in {amount.name | some amount in amounts}
	total := sum([amount.value | some amount in amounts; amount.name == name; is_number(amount.value)])
}
