package guard.rules.handoff_role_test

import rego.v1

import data.guard.lib.cases_test as cases
import data.guard.rules.handoff_role

_codes(principal) := codes if {
	codes := cases.codes(handoff_role.verdicts)
		with input as cases.at("pre_handoff", {"principal": principal})
}

test_a_delegator_may_hand_on if {
	handoff_role.verdicts == {{
		"effect": "allow",
		"code": "handoff_role.may_hand_on",
		"message": "the agent has a role that may hand work to another agent",
	}} with input as cases.at("pre_handoff", {"principal": {"roles": ["clerk", "delegator"]}})
}

test_without_the_role_a_hand_off_is_refused if {
	every roles in [
		[], ["clerk"], ["Delegator"], ["delegator "], "delegator", {"delegator": "delegator"},
		[["delegator"]], null,
	] {
		_codes({"roles": roles}) == {"handoff_role.not_a_role"}
	}
}

test_the_roles_are_a_setting if {
	_codes({"roles": ["lead"]}) == {"handoff_role.may_hand_on"}
		with data.settings.handoff_role.roles as ["lead"]
	_codes({"roles": ["delegator"]}) == {"handoff_role.not_a_role"}
		with data.settings.handoff_role.roles as ["lead"]
	_codes({"roles": ["delegator"]}) == {"handoff_role.not_a_role"} with data.settings as {}
}

test_a_role_without_an_identity_permits_nothing if {
	_codes({"id": "anonymous", "roles": ["delegator"]}) == set()
}
