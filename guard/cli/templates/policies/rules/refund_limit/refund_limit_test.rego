package guard.rules.refund_limit_test

import rego.v1

import data.guard.rules.refund_limit

after(refunds) := {"point": "pre_tool_call", "path": {"counts": {"tool:refund": refunds}}}

test_the_first_refunds_pass if count(refund_limit.verdicts) == 0 with input as after(2)

test_a_further_refund_needs_a_person if {
	some verdict in refund_limit.verdicts with input as after(3)
	verdict.effect == "review"
}
