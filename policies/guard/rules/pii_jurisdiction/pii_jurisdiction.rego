# METADATA
# scope: package
# title: Personal data stays in its jurisdiction
# description: >-
#   Messages with personal data go only to a model that is cleared for personal data and for the
#   jurisdiction of the call. What no scanner could read may be personal data, and counts as such.
# custom:
#   points: [pre_model_call]
#   controls: [GDPR-44, GDPR-32, EU-AI-ACT-10]
package guard.rules.pii_jurisdiction

import rego.v1

import data.guard.lib.fleet

verdicts contains {
	"effect": "route",
	"code": "pii_jurisdiction.model_not_cleared",
	"message": "the model is not cleared for the personal data that the messages may hold",
	"route": {"models": _cleared},
} if {
	not input.context.jurisdiction == null
	_is_to_move
	_cleared[0]
}

verdicts contains {
	"effect": "deny",
	"code": "pii_jurisdiction.no_cleared_model",
	"message": "no active model is cleared for the personal data that the messages may hold",
} if {
	not input.context.jurisdiction == null
	_is_to_move
	not _cleared[0]
}

_is_to_move if {
	_is_personal
	not _is_cleared
}

_is_personal if not input.evidence.pii == {}

_is_personal if not input.evidence.unscanned == []

# The same name at another endpoint is another model, and cleared for nothing.
_is_cleared if {
	fleet.is_approved(input)
	fleet.is_cleared(input.model.id, input.context.jurisdiction)
}

_cleared := fleet.active_and_cleared(input.context.jurisdiction) if _is_to_move
