"""The mutations still fit the engine: each finds its text, and what it leaves is Python; two are run for real."""

from pathlib import Path

import pytest

from data_platform_tests.proof import mutations
from data_platform_tests.proof.mutations import MUTATIONS, REPOSITORY, Edit, Mutation, mutated

ISSUE = (
    mutations.NULL_SAFE,
    mutations.BOUNDARY,
    mutations.REKEYING,
    mutations.PROFIT,
    mutations.ARRIVAL,
    mutations.TOMBSTONE,
    mutations.INFERRED,
    mutations.LOCK,
    mutations.LEDGER,
    mutations.DELIVERED_ON,
    mutations.QUARANTINED,
    mutations.SECOND_TABLE,
)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_mutation_finds_each_of_its_texts_once_and_leaves_python(mutation: Mutation) -> None:
    texts: dict[str, str] = {}
    for edit in mutation.edits:
        path = REPOSITORY / "data_platform" / edit.file
        text = texts.get(edit.file) or path.read_text(encoding="utf8")
        texts[edit.file] = mutated(text, edit)
        assert texts[edit.file] != text
    for file, text in texts.items():
        compile(text, file, "exec")


def test_every_break_that_the_issue_names_has_a_mutation_and_no_two_have_one_name() -> None:
    assert {mutation.breaks for mutation in MUTATIONS} >= set(ISSUE)
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS)


def test_a_text_that_stands_twice_or_nowhere_is_refused() -> None:
    for text in ("a a", "b"):
        with pytest.raises(ValueError, match="not once"):
            mutated(text, Edit("file.py", "a", "c"))


def test_a_mutation_is_made_in_the_copy_alone_noticed_there_and_taken_back(server: str, tmp_path: Path) -> None:
    mutation = next(mutation for mutation in MUTATIONS if mutation.name == "versions-compared-by-equals")
    file = Path("data_platform") / mutation.edits[0].file
    before = (REPOSITORY / file).read_text(encoding="utf8")
    test = "data_platform_tests/warehouse/test_laws.py"
    words = "as_they_arrive and null and becomes"
    with mutations.copied(tmp_path / "copy") as copy:
        with mutations.applied(mutation, copy):
            assert (copy / file).read_text(encoding="utf8") != before
            caught = mutations.run_tests(copy, server, [test, "-k", words])
        assert caught.caught_by, caught.broken
        assert caught.caught_by.startswith(f"{test}::test_deliveries_published_as_they_arrive")
        assert (copy / file).read_text(encoding="utf8") == before == (REPOSITORY / file).read_text(encoding="utf8")
        assert mutations.run_tests(copy, server, [test, "-k", words]) == mutations.Outcome(None)
