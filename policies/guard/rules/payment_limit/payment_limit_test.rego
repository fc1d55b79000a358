package guard.rules.payment_limit_test

import rego.v1

import data.guard.lib.cases_test as cases
import data.guard.rules.payment_limit

_codes(args) := codes if {
	codes := cases.codes(payment_limit.verdicts) with input as cases.tool_call(["pay"], args)
}

test_a_payment_over_the_limit_is_reviewed_by_finance if {
	payment_limit.verdicts == {{
		"effect": "review",
		"code": "payment_limit.over_limit",
		"message": "the payment is over the limit and needs the approval of finance",
		"pointers": ["/args/amount"],
		"review": {"queue": "finance", "ttl_s": 3600},
	}} with input as cases.tool_call(["pay"], {"amount": 500.01, "to": "ACME"})
}

test_a_payment_up_to_the_limit_is_left_alone if {
	every amount in [0.01, 1, 499.99, 500, 500.0, 5e2] {
		_codes({"amount": amount}) == set()
	}
}

test_a_tool_that_does_not_pay_is_left_alone if {
	payment_limit.verdicts == set() with input as cases.tool_call(["read", "send"], {"amount": 9000})
}

test_paying_among_other_effects_is_still_paying if {
	call := cases.tool_call(["read", "pay", "send"], {"amount": 9000})
	cases.codes(payment_limit.verdicts) == {"payment_limit.over_limit"} with input as call
}

test_an_amount_that_is_not_a_positive_number_is_refused if {
	every amount in [
		"9000", "5,000", "1e9", "NaN", "", " 5 ", 0, -1, -0.01, null, true, [9000], [], {"value": "5"},
		{},
	] {
		"payment_limit.not_positive" in _codes({"amount": amount})
	}
}

test_a_huge_amount_is_reviewed if {
	_codes({"amount": 1e300}) == {"payment_limit.over_limit"}
	_codes({"amount": 9223372036854775807}) == {"payment_limit.over_limit"}
	_codes({"lines": [{"amount": 1.7e308}, {"amount": 1.7e308}]}) == {"payment_limit.over_limit"}
}

test_a_payment_without_an_amount_is_refused if {
	every args in [
		{}, {"to": "ACME"}, {"sum": 9000}, {"note": "amount"}, [], ["amount", 9000], null,
		"amount", 9000,
	] {
		_codes(args) == {"payment_limit.no_amount"}
	}
}

test_every_amount_argument_counts if {
	_codes({"amount": 1, "total": 501}) == {"payment_limit.over_limit"}
	_codes({"amount": 1, "value": "501"}) == {"payment_limit.not_positive"}
}

test_case_and_white_space_do_not_hide_an_amount if {
	every name in ["Amount", "AMOUNT", " amount", "amount\t\n", "\u00a0Amount", "TOTAL"] {
		_codes({"amount": 1, name: 9000}) == {"payment_limit.over_limit"}
	}
}

test_invisible_characters_in_a_name_leave_a_payment_without_an_amount if {
	every name in ["amo\u200bunt", "amount\ufeff", "am\u00adount", "\uff41mount", "\u0430mount"] {
		_codes({name: 9000}) == {"payment_limit.no_amount"}
	}
}

test_depth_does_not_hide_an_amount if {
	_codes({"invoice": {"lines": [{"total": 9000}]}}) == {"payment_limit.over_limit"}
	_codes({"amount": 1, "extra": [{"amount": -9000}]}) == {"payment_limit.not_positive"}
}

test_a_batch_cannot_stay_below_the_limit_piece_by_piece if {
	_codes({"payments": [{"amount": 300}, {"amount": 300}]}) == {"payment_limit.over_limit"}
	_codes({"amount": 300, "AMOUNT": 300}) == {"payment_limit.over_limit"}
	_codes({"payments": [{"amount": 200}, {"amount": 300}]}) == set()
}

test_one_amount_said_twice_counts_once if {
	_codes({"amount": 300, "total": 300}) == set()
}

test_many_wrong_amounts_are_one_verdict if {
	call := cases.tool_call(["pay"], {"lines": [{"amount": 0 - n} | some n in numbers.range(1, 50)]})
	[count(verdict.pointers) | some verdict in payment_limit.verdicts] == [50] with input as call
}

test_pointers_are_escaped if {
	verdicts := payment_limit.verdicts
		with input as cases.tool_call(["pay"], {"a/b~c": [{"amount": 0}]})
	[verdict.pointers | some verdict in verdicts] == [["/args/a~1b~0c/0/amount"]]
}

test_the_limit_is_a_setting if {
	_codes({"amount": 50}) == {"payment_limit.over_limit"}
		with data.settings.payment_limit.amount_max as 49
}

test_a_limit_that_is_not_a_number_leaves_every_payment_to_a_person if {
	every limit in ["500", null, [500], {}] {
		_codes({"amount": 1}) == {"payment_limit.over_limit"}
			with data.settings.payment_limit.amount_max as limit
	}
	_codes({"amount": 1}) == {"payment_limit.no_amount"} with data.settings as {}
}
