import asyncio
import time

import pytest

from serving.api import batching
from serving.api.batching import MAX_DOCUMENTS, MAX_WAIT, Batcher, BusyError, WaitPolicy


def taught(gap, fixed, each):
    """Return a policy that has seen documents come so far apart, and batches cost so much."""
    policy = WaitPolicy()
    for number in range(300):
        policy.arrived(number * gap)
        documents = 1 + number % 8
        policy.decided(documents, fixed + each * documents)
    return policy


def test_a_batch_waits_where_the_next_document_comes_sooner_than_a_batch_costs():
    assert taught(gap=0.001, fixed=0.004, each=0.002).seconds == pytest.approx(0.001, rel=0.05)
    assert taught(gap=0.01, fixed=0.004, each=0.002).seconds == 0
    assert taught(gap=0.001, fixed=0.0, each=0.002).seconds == 0
    assert taught(gap=0.003, fixed=1.0, each=0.002).seconds <= MAX_WAIT


def test_what_a_batch_costs_beside_its_documents_is_learnt():
    assert taught(gap=0.001, fixed=0.004, each=0.002).fixed == pytest.approx(0.004, rel=0.05)


def scenario(decide, asking):
    async def run():
        batcher = Batcher(decide)
        batcher.start()
        try:
            return await asking(batcher)
        finally:
            await batcher.close()

    return asyncio.run(run())


def test_documents_that_come_while_a_batch_is_decided_are_the_next_each_group_by_itself():
    batches = []

    def decide(group, documents):
        batches.append((group, len(documents)))
        time.sleep(0.05)
        return [f"{group}:{document}" for document in documents]

    async def asking(batcher):
        first = asyncio.create_task(batcher.ask("a", 0))
        await asyncio.sleep(0.02)
        rest = [batcher.ask("ab"[number % 2], number) for number in range(1, 9)]
        return await asyncio.gather(first, *rest)

    answers = scenario(decide, asking)
    assert [answer for answer, _ in answers] == ["a:0"] + [f"{'ab'[n % 2]}:{n}" for n in range(1, 9)]
    assert batches[0] == ("a", 1)
    assert sorted(batches[1:]) == [("a", 4), ("b", 4)]
    assert all(waited >= 0 for _, waited in answers)
    assert max(waited for _, waited in answers) > 0.02


def test_no_batch_is_larger_than_the_largest():
    sizes = []

    def decide(_, documents):
        sizes.append(len(documents))
        return documents

    async def asking(batcher):
        return await asyncio.gather(*(batcher.ask("a", number) for number in range(3 * MAX_DOCUMENTS)))

    assert [answer for answer, _ in scenario(decide, asking)] == list(range(3 * MAX_DOCUMENTS))
    assert max(sizes) <= MAX_DOCUMENTS


def test_a_batch_that_fails_is_theirs_who_asked_and_the_next_is_decided():
    async def asking(batcher):
        with pytest.raises(ZeroDivisionError):
            await batcher.ask("a", 0)
        return await batcher.ask("a", 1)

    assert scenario(lambda _, documents: [1 / one for one in documents], asking)[0] == 1


def test_more_than_may_wait_are_refused(monkeypatch):
    monkeypatch.setattr(batching, "MAX_WAITING", 2)

    async def asking(batcher):
        return await asyncio.gather(*(batcher.ask("a", number) for number in range(9)), return_exceptions=True)

    answers = scenario(lambda _, documents: documents, asking)
    assert [isinstance(answer, BusyError) for answer in answers] == [False] * 2 + [True] * 7
