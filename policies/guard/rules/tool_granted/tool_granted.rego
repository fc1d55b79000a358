# METADATA
# scope: package
# title: A tool call needs a grant
# description: >-
#   No grant, no tool: a planner, which holds none, may call nothing. The permit is for a declared
#   tool and a grant that covers this very call; anything else is refused with the reason.
# custom:
#   points: [pre_tool_call]
#   controls: [OWASP-ASI02, OWASP-ASI03, EU-AI-ACT-15]
package guard.rules.tool_granted

import rego.v1

verdicts contains {
	"effect": "allow",
	"code": "tool_granted.granted",
	"message": "a grant of this session covers the call",
} if {
	input.evidence.capability.granted == true
	input.evidence.capability.why == "granted"
	input.tool.is_declared == true
}

verdicts contains {
	"effect": "deny",
	"code": "tool_granted.no_grant",
	"message": "the agent holds no grant for this tool",
} if {
	input.evidence.capability.why == "no_grant"
}

verdicts contains {
	"effect": "deny",
	"code": "tool_granted.argument_not_allowed",
	"message": "the grant for this tool does not cover the value of an argument",
} if {
	input.evidence.capability.why == "argument_not_allowed"
}

verdicts contains {
	"effect": "deny",
	"code": "tool_granted.expired",
	"message": "the grant for this tool has expired",
} if {
	input.evidence.capability.why == "expired"
}

verdicts contains {
	"effect": "deny",
	"code": "tool_granted.not_covered",
	"message": "it is not certain that a grant covers this call",
} if {
	not input.evidence.capability.granted == true
	not input.evidence.capability.why == "no_grant"
	not input.evidence.capability.why == "argument_not_allowed"
	not input.evidence.capability.why == "expired"
}
