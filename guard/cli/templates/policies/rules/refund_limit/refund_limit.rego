# METADATA
# scope: package
# title: Few refunds in one run
# description: After a few refunds in one run, each further one needs a person.
# custom:
#   points: [pre_tool_call]
#   tools: [refund]
#   controls: [EU-AI-ACT-14]
package guard.rules.refund_limit

import rego.v1

verdicts contains {
	"effect": "review",
	"code": "refund_limit.too_many",
	"message": "this run has made its refunds, a person decides about more",
	"review": {"queue": "support", "ttl_s": 3600},
} if {
	input.path.counts["tool:refund"] >= data.settings.refund_limit.refunds_max
}
