# METADATA
# scope: package
# title: The approved models
# description: >-
#   What the fleet says of the model in the input. Approval is of id, provider and endpoint
#   together: the same id at another endpoint is another model.
package guard.lib.fleet

import rego.v1

is_approved(request) if {
	entry := data.fleet.models[request.model.id]
	is_same_place(entry, request.model)
	is_in_use(entry)
}

is_same_place(entry, model) if {
	entry.provider == model.provider
	entry.endpoint == model.endpoint
}

is_in_use(entry) if entry.status in {"active", "deprecated"}

active := [id |
	is_object(data.fleet.models)
	some id, entry in data.fleet.models
	entry.status == "active"
]

is_cleared(id, jurisdiction) if {
	entry := data.fleet.models[id]
	is_string(jurisdiction)
	jurisdiction in entry.jurisdictions
	"personal" in entry.data_classes
}

active_and_cleared(jurisdiction) := [id |
	some id in active
	is_cleared(id, jurisdiction)
]
