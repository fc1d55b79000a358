# METADATA
# scope: package
# title: Only approved models are called
# description: >-
#   A model of the fleet, active or deprecated, at its approved provider and endpoint, is called as
#   asked. Any other call goes to an active model of the fleet instead; with none, it is refused.
# custom:
#   points: [pre_model_call]
#   controls: [OWASP-ASI04, EU-AI-ACT-15, EU-AI-ACT-9]
package guard.rules.model_approved

import rego.v1

import data.guard.lib.fleet

verdicts contains {
	"effect": "allow",
	"code": "model_approved.approved",
	"message": "the model is approved",
} if {
	_is_approved
}

verdicts contains {
	"effect": "allow",
	"code": "model_approved.routed",
	"message": "the call may be made with an approved model instead",
} if {
	not _is_approved
	fleet.active[0]
}

verdicts contains {
	"effect": "route",
	"code": "model_approved.unknown_model",
	"message": "the model is not in the fleet",
	"route": {"models": fleet.active},
} if {
	not _is_approved
	fleet.active[0]
	not _entry
}

verdicts contains {
	"effect": "route",
	"code": "model_approved.other_endpoint",
	"message": "the model is called at a provider or endpoint that is not approved",
	"route": {"models": fleet.active},
} if {
	not _is_approved
	fleet.active[0]
	_entry
	not fleet.is_same_place(_entry, input.model)
}

verdicts contains {
	"effect": "route",
	"code": "model_approved.not_active",
	"message": "the model is retired or not yet in use",
	"route": {"models": fleet.active},
} if {
	not _is_approved
	fleet.active[0]
	_entry
	not fleet.is_in_use(_entry)
}

verdicts contains {
	"effect": "deny",
	"code": "model_approved.no_active_model",
	"message": "the model is not approved, and the fleet has no active model to take its place",
} if {
	not _is_approved
	not fleet.active[0]
}

_is_approved if fleet.is_approved(input)

_entry := data.fleet.models[input.model.id]
