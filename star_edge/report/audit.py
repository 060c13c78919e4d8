"""The audit of rewards as tables, for a terminal and as a Markdown page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from star_edge.contracts import AuditReport, KindAgreement, Misorder, RewardAgreement
from star_edge.report.tables import Table, markdown_table, plain_table


def audit_text(report: AuditReport) -> str:
    """The tables and, with what was answered, the widest inversions."""
    parts = [_sample(report), plain_table(_rewards(report)), plain_table(_perturbations(report))]
    return "\n\n".join([*parts, *map(_misorder, report.worst)])


def audit_markdown(report: AuditReport, *, command: str, versions: Mapping[str, str]) -> str:
    """The tables as a page. Answers stay out of it: those of an evaluation suite belong into no repository."""
    return "\n\n".join(
        [
            "# Rewards against BFCL's checker",
            f"Written by `{command}`; [docs/rewards.md](../rewards.md) says what is measured. {_sample(report)}",
            markdown_table(_rewards(report)),
            "AUC within cases: pairs ordered right, ties counted half, which is the area under the ROC curve within "
            "cases. " + " ".join(map(_ties, report.rewards)),
            "Perturbation by perturbation: the mean reward of these answers, and of the pairs with one of them the "
            "share that is inverted.",
            markdown_table(_perturbations(report)),
            "The widest inversions of each reward, by case; the command prints what was answered.",
            markdown_table(_worst(report.worst)),
            f"Versions: {', '.join(f'{name} {version}' for name, version in versions.items())}.\n",
        ]
    )


def _sample(report: AuditReport) -> str:
    return (
        f"{report.answers} perturbed answers to {report.cases} cases, {report.right} of them right: {report.pairs} "
        f"pairs of a right and a wrong answer to the same case (seed {report.seed})."
    )


def _ties(row: RewardAgreement) -> str:
    inverted, tied = (f"{share * 100:.1f} %" for share in (row.inverted, row.tied))
    return f"`{row.reward}` inverts {inverted} of the pairs and ties {tied}, which it therefore cannot invert."


def _rewards(report: AuditReport) -> Table:
    table = [["reward", "tau-b", "AUC within cases, %", "pairs in order, %", "tied, %", "inverted, %"]]
    table[0].append("inverted of the untied, %")
    for row in report.rewards:
        of_untied = row.inverted / (1 - row.tied) if row.tied < 1 else 0.0
        shares = (row.auc, row.in_order, row.tied, row.inverted, of_untied)
        table.append([row.reward, f"{row.tau_b:.3f}", *(f"{share * 100:.1f}" for share in shares)])
    return table


def _perturbations(report: AuditReport) -> Table:
    kinds = [row.reward for row in report.rewards]
    head = ["perturbation", "answers", "right", *(f"{kind}, mean" for kind in kinds)]

    def line(row: KindAgreement) -> list[str]:
        means = [f"{row.mean_reward[kind]:.2f}" for kind in kinds]
        return [row.kind, str(row.answers), str(row.right), *means, *(f"{row.inverted[k] * 100:.1f}" for k in kinds)]

    rows = sorted(report.perturbations, key=lambda row: (-row.right / row.answers, row.kind))
    return [[*head, *(f"{kind}, inverted %" for kind in kinds)], *map(line, rows)]


def _worst(rows: Sequence[Misorder]) -> Table:
    lines = [
        [row.reward, row.case, row.wrong_kind, f"{row.wrong_reward:.2f}", row.right_kind, f"{row.right_reward:.2f}"]
        for row in rows
    ]
    return [["reward", "case", "wrong answer", "its reward", "right answer", "its reward"], *lines]


def _misorder(row: Misorder) -> str:
    return (
        f"{row.reward}, {row.case}: {row.wrong_kind} (wrong) {row.wrong_reward:.3f} > "
        f"{row.right_kind} (right) {row.right_reward:.3f}\n"
        f"  target {_one_line(row.target)}\n  wrong  {_one_line(row.wrong_text)}\n  right  {_one_line(row.right_text)}"
    )


def _one_line(text: str) -> str:
    return " ".join(text.replace("<tool_call>", "").replace("</tool_call>", "").split())
