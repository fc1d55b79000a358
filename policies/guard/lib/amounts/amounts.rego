# METADATA
# scope: package
# title: Amounts of money in the arguments of a tool
# description: >-
#   Finds every argument with one of the given names, however deep, whatever its case and however
#   it is decorated (`Amount`, ` amount `), so that a call cannot hide an amount from a limit.
package guard.lib.amounts

import rego.v1

import data.guard.lib.pointer

found(names) := [amount |
	is_array(names)
	walk(input.args, [path, value])
	name := path[count(path) - 1]
	is_string(name)
	canonical := regex.replace(lower(name), `[^a-z0-9]`, "")
	canonical in names
	amount := {"name": canonical, "value": value, "pointer": pointer.of(array.concat(["args"], path))}
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
