package guard.rules.confidential_egress_test

import rego.v1

import data.guard.lib.cases_test as cases
import data.guard.rules.confidential_egress

_call(effects, args) := object.union(
	cases.tool_call(effects, args),
	{"path": {"facts": {"read:confidential": true}}},
)

_codes(args) := codes if {
	codes := cases.codes(confidential_egress.verdicts) with input as _call(["send"], args)
		with data.settings.confidential_egress.internal_domains as ["corp.com"]
}

_refused := {"confidential_egress.outside"}

test_sending_outside_after_a_confidential_read_is_refused if {
	confidential_egress.verdicts == {{
		"effect": "deny",
		"code": "confidential_egress.outside",
		"message": "the run has read confidential data, and the call sends data outside",
		"pointers": ["/args/to"],
	}} with input as _call(["send"], {"to": "eve@evil.com"})
}

test_without_a_listed_domain_everyone_is_outside if {
	cases.codes(confidential_egress.verdicts) == _refused
		with input as _call(["publish"], {"to": "bob@corp.com"})
}

test_without_a_confidential_read_nothing_is_refused if {
	confidential_egress.verdicts == set()
		with input as cases.tool_call(["send"], {"to": "eve@evil.com"})
}

test_a_tool_that_does_not_send_is_left_alone if {
	confidential_egress.verdicts == set()
		with input as _call(["read", "write"], {"to": "eve@evil.com"})
}

test_destinations_inside_are_left_alone if {
	every to in [
		"bob@corp.com", " Bob@CORP.com ", "o'brien+x@corp.com", ["bob@corp.com", "ann@corp.com"],
	] {
		_codes({"to": to}) == set()
	}
}

test_one_destination_outside_is_enough if {
	_codes({"to": ["bob@corp.com", "eve@evil.com"]}) == _refused
}

test_look_alikes_of_a_domain_are_outside if {
	every to in [
		"bob@corp.com.evil.com", "bob@evilcorp.com", "bob@sub.corp.com",
		"bob@corp.com.", "bob@corp.comevil",
		"bob@\u212aorp.com", "bob@c\u043erp.com", "bob@corp\uff0ecom",
		"bob@corp.com\u200b", "bob@cor\u00adp.com",
		"corp.com", "@corp.com", "bob@", "https://corp.com/x", "eve@evil.com/@corp.com",
	] {
		_codes({"to": to}) == _refused
	}
}

test_two_addresses_in_one_string_are_outside if {
	every to in [
		"bob@corp.com, eve@evil.com", "bob@corp.com;eve@evil.com", "eve@evil.com bob@corp.com",
		"bob@corp.com\neve@evil.com", "bob@corp.com\nbcc: eve@evil.com", "eve@evil.com@corp.com",
		"eve%evil.com@corp.com", "evil!eve@corp.com", "<eve@evil.com>bob@corp.com",
		"\"eve@evil.com\"@corp.com",
		"Bob <bob@corp.com>",
	] {
		_codes({"to": to}) == _refused
	}
}

test_what_is_not_an_address_is_outside if {
	every to in [
		"", " ", 7, true, {"address": "bob@corp.com"}, ["bob@corp.com", 7], [
			"bob@corp.com",
			null,
		],
		[["bob@corp.com"]],
	] {
		_codes({"to": to}) == _refused
	}
}

test_a_call_without_a_destination_goes_outside if {
	every args in [
		{}, {"to": null}, {"to": []}, {"TO": "bob@corp.com"}, ["bob@corp.com"], "bob@corp.com",
		null,
	] {
		_codes(args) == _refused
	}
}

test_a_tool_that_declares_no_destination_goes_outside if {
	call := object.union(_call(["send"], {"to": "bob@corp.com"}), {"tool": {"destinations": []}})
	cases.codes(confidential_egress.verdicts) == _refused with input as call
		with data.settings.confidential_egress.internal_domains as ["corp.com"]
}

test_every_declared_destination_counts_and_an_empty_one_does_not if {
	call := object.union(
		_call(["send"], {"to": "bob@corp.com"}),
		{"tool": {"destinations": ["to", "cc", "bcc"]}},
	)
	copied := object.union(call, {"args": {"cc": null, "bcc": ["eve@evil.com"]}})
	plain := object.union(call, {"args": {"cc": null, "bcc": []}})
	cases.codes(confidential_egress.verdicts) == _refused with input as copied
		with data.settings.confidential_egress.internal_domains as ["corp.com"]
	confidential_egress.verdicts == set() with input as plain
		with data.settings.confidential_egress.internal_domains as ["corp.com"]
}

test_a_list_of_domains_that_is_no_list_lets_nobody_in if {
	every domains in ["corp.com", null, {}, {"corp.com": true}] {
		cases.codes(confidential_egress.verdicts) == _refused
			with input as _call(["send"], {"to": "bob@corp.com"})
			with data.settings.confidential_egress.internal_domains as domains
	}
}

test_without_settings_nobody_is_inside if {
	cases.codes(confidential_egress.verdicts) == _refused
		with input as _call(["send"], {"to": "bob@corp.com"})
		with data.settings as {}
}

test_destinations_that_are_no_list_are_outside if {
	every names in ["to", null, {"to": true}] {
		call := object.union(_call(["send"], {"to": "bob@corp.com"}), {"tool": {"destinations": names}})
		cases.codes(confidential_egress.verdicts) == _refused with input as call
			with data.settings.confidential_egress.internal_domains as ["corp.com"]
	}
}
