package guard.rules.model_approved_test

import rego.v1

import data.guard.lib.cases_test as cases
import data.guard.rules.model_approved

_codes(model) := codes if {
	codes := cases.codes(model_approved.verdicts) with input as cases.model_call(model, {})
		with data.fleet.models as cases.fleet
}

_model(id) := {"id": id, "provider": "eu-cloud", "endpoint": null}

_approved := {"id": "gpt-eu", "provider": "eu-cloud", "endpoint": "https://eu.example"}

test_an_approved_model_is_called_as_asked if {
	model_approved.verdicts == {{
		"effect": "allow",
		"code": "model_approved.approved",
		"message": "the model is approved",
	}} with input as cases.model_call(_approved, {}) with data.fleet.models as cases.fleet
}

test_a_deprecated_model_is_still_approved if {
	_codes(_model("gpt-old")) == {"model_approved.approved"}
}

test_an_unknown_model_is_replaced_by_the_active_ones if {
	model_approved.verdicts == {
		{
			"effect": "allow",
			"code": "model_approved.routed",
			"message": "the call may be made with an approved model instead",
		},
		{
			"effect": "route",
			"code": "model_approved.unknown_model",
			"message": "the model is not in the fleet",
			"route": {"models": ["gpt-eu", "gpt-public", "gpt-us"]},
		},
	} with input as cases.model_call(_model("llama"), {}) with data.fleet.models as cases.fleet
}

test_a_model_that_is_not_in_use_is_replaced if {
	every id in ["gpt-gone", "gpt-next", "gpt-shadow"] {
		_codes(_model(id)) == {"model_approved.routed", "model_approved.not_active"}
	}
}

test_another_provider_or_endpoint_is_another_model if {
	every change in [
		{"endpoint": "https://evil.example"}, {"endpoint": null}, {"endpoint": "https://EU.example"},
		{"endpoint": "https://eu.example/"}, {"provider": "other"}, {"provider": null},
		{"provider": ["eu-cloud"]},
	] {
		_codes(object.union(_approved, change)) == {
			"model_approved.routed",
			"model_approved.other_endpoint",
		}
	}
}

test_a_name_that_only_looks_like_an_approved_one_is_unknown if {
	every id in ["GPT-EU", " gpt-eu", "gpt-eu\u200b", "", null, 7, ["gpt-eu"], {}] {
		_codes(object.union(_approved, {"id": id})) == {
			"model_approved.routed",
			"model_approved.unknown_model",
		}
	}
}

test_a_call_that_names_no_model_is_replaced if {
	_codes(null) == {"model_approved.routed", "model_approved.unknown_model"}
}

test_without_an_active_model_the_call_is_refused if {
	every models in [{}, null, [], cases.fleet_asleep] {
		cases.codes(model_approved.verdicts) == {"model_approved.no_active_model"}
			with input as cases.model_call(_model("llama"), {})
			with data.fleet.models as models
	}
}

test_without_a_fleet_the_call_is_refused if {
	cases.codes(model_approved.verdicts) == {"model_approved.no_active_model"}
		with input as cases.model_call(_approved, {})
		with data.fleet as {}
}
