from __future__ import annotations

import pytest

from star_edge.contracts import AuditReport, KindAgreement, Misorder, RewardAgreement
from star_edge.report.audit import audit_markdown, audit_text

REPORT = AuditReport(
    answers=10,
    cases=2,
    right=4,
    pairs=12,
    seed=7,
    rewards=(RewardAgreement("typed", 0.6789, 0.75, 0.2, 0.05),),
    perturbations=(
        KindAgreement("wrong type", 6, 0, {"typed": 0.4}, {"typed": 0.1}, {"typed": 0.025}),
        KindAgreement("canonical", 4, 4, {"typed": 1.0}, {"typed": 0.0}, {"typed": 0.0}),
    ),
    worst=(
        Misorder(
            reward="typed",
            case="simple_3",
            wrong_kind="wrong type",
            wrong_reward=0.9,
            wrong_text='<tool_call>\n{"name": "f", "arguments": {"a": "secret"}}\n</tool_call>',
            right_kind="accepted value",
            right_reward=0.25,
            right_text="right words",
            target="target words",
        ),
    ),
)


def test_the_terminal_shows_tables_and_what_was_answered():
    text = audit_text(REPORT)
    assert "10 perturbed answers to 2 cases, 4 of them right: 12 pairs" in text
    assert ["typed", "0.679", "85.0", "75.0", "20.0", "5.0", "6.2"] in [line.split() for line in text.splitlines()]
    assert text.index("canonical") < text.index("wrong type")
    assert '  wrong  {"name": "f", "arguments": {"a": "secret"}}\n  right  right words' in text
    assert "typed, simple_3: wrong type (wrong) 0.900 > accepted value (right) 0.250" in text


def test_the_page_names_command_and_versions_and_holds_no_answers():
    page = audit_markdown(REPORT, command="star-edge reward audit --seed 7", versions={"bfcl-eval": "1.2"})
    assert "`star-edge reward audit --seed 7`" in page
    assert page.endswith("Versions: bfcl-eval 1.2.\n")
    assert "| typed | 0.679 | 85.0 | 75.0 | 20.0 | 5.0 | 6.2 |" in page
    assert "| wrong type | 6 | 0 | 0.40 | 2.5 |" in page
    assert "| typed | simple_3 | wrong type | 0.90 | accepted value | 0.25 |" in page


@pytest.mark.parametrize("leak", ["secret", "right words", "target words"])
def test_what_was_answered_stays_out_of_the_page(leak):
    assert leak not in audit_markdown(REPORT, command="", versions={})
