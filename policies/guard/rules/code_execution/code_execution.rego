# METADATA
# scope: package
# title: Running code needs a role and a person
# description: >-
#   A tool that runs code is refused unless the agent has one of the listed roles, and then waits
#   for the security queue. No role is listed by default.
# custom:
#   points: [pre_tool_call]
#   controls: [OWASP-ASI05, OWASP-ASI03, EU-AI-ACT-14]
package guard.rules.code_execution

import rego.v1

import data.guard.lib.principal

verdicts contains {
	"effect": "deny",
	"code": "code_execution.not_a_role",
	"message": "the tool runs code, and the agent has no role that may",
} if {
	"execute" in input.tool.effects
	not _has_role
}

verdicts contains {
	"effect": "review",
	"code": "code_execution.needs_review",
	"message": "the tool runs code and needs the approval of security",
	"review": {"queue": "security", "ttl_s": 3600},
} if {
	"execute" in input.tool.effects
	_has_role
}

_has_role if principal.has_role(input, data.settings.code_execution.roles)
