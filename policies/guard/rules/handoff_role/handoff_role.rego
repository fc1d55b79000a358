# METADATA
# scope: package
# title: Handing work on needs a role
# description: >-
#   An agent hands its work to another only with one of the listed roles; by default that is the
#   role of a delegator. This is the only rule that permits a hand-off.
# custom:
#   points: [pre_handoff]
#   controls: [OWASP-ASI03, OWASP-ASI07]
package guard.rules.handoff_role

import rego.v1

import data.guard.lib.principal

verdicts contains {
	"effect": "allow",
	"code": "handoff_role.may_hand_on",
	"message": "the agent has a role that may hand work to another agent",
} if {
	principal.is_identified(input)
	_has_role
}

verdicts contains {
	"effect": "deny",
	"code": "handoff_role.not_a_role",
	"message": "the agent has no role that may hand work to another agent",
} if {
	not _has_role
}

_has_role if principal.has_role(input, data.settings.handoff_role.roles)
