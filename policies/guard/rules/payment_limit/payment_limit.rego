# METADATA
# scope: package
# title: Large payments need a person
# description: >-
#   A payment over the limit waits for the finance queue. All amounts of one name count together,
#   so that a batch cannot stay below the limit piece by piece. An amount that is not a positive
#   number, and a payment without an amount, is refused.
# custom:
#   points: [pre_tool_call]
#   controls: [OWASP-ASI02, OWASP-ASI09, EU-AI-ACT-14]
package guard.rules.payment_limit

import rego.v1

import data.guard.lib.amounts
import data.guard.lib.pointer

verdicts contains {
	"effect": "review",
	"code": "payment_limit.over_limit",
	"message": "the payment is over the limit and needs the approval of finance",
	"pointers": [pointer.below("args", amount.path) | some amount in _amounts],
	"review": {"queue": "finance", "ttl_s": 3600},
} if {
	"pay" in input.tool.effects
	some total in amounts.totals(_amounts)
	not _is_within_limit(total)
}

verdicts contains {
	"effect": "deny",
	"code": "payment_limit.not_positive",
	"message": "an amount of the payment is not a positive number",
	"pointers": [pointer.below("args", amount.path) | some amount in _refused],
} if {
	"pay" in input.tool.effects
	_refused[0]
}

verdicts contains {
	"effect": "deny",
	"code": "payment_limit.no_amount",
	"message": "the payment does not say its amount",
} if {
	"pay" in input.tool.effects
	not _amounts[0]
}

_amounts := amounts.found(data.settings.payment_limit.amount_arguments)

_refused := [amount | some amount in _amounts; not amounts.is_positive(amount.value)]

# A limit that is missing or not a number leaves every payment to a person.
_is_within_limit(total) if {
	is_number(data.settings.payment_limit.amount_max)
	total <= data.settings.payment_limit.amount_max
}
