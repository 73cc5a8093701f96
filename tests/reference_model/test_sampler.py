"""The block sampler against its definition, and the autoregressive twin against a plain loop."""

import collections
import copy
import functools
from dataclasses import replace

import pytest
import torch
from tests.reference_model.tiny import make_model, make_tokenizer

from sdb_kernels.fp8 import quantise
from sdb_kernels.packed import is_available
from sdb_reference_model.autoregressive import sample_tokens
from sdb_reference_model.model import SIZES, ModelConfig, Transformer
from sdb_reference_model.past import Cached, Past, Uncached
from sdb_reference_model.policies import (
    Policy,
    Revision,
    Schedule,
    commit_above,
    commit_evenly,
    edit_above,
    label_above,
    remask_above,
    remask_on_schedule,
    start_revision,
)
from sdb_reference_model.replay import Replayer, Rule
from sdb_reference_model.sampler import (
    Generation,
    denoise_block,
    is_behind_tail_start,
    sample_blocks,
)
from sdb_reference_model.selection import make_select
from sdb_reference_model.tokenizer import CodeTokenizer, ControlIds

UNFOLDED = functools.partial(Cached, is_folded=False)
PROMPTS = [[10, 11, 12, 13, 14], [20, 21], [30, 31, 32, 33, 34, 35, 36, 37, 38], [40]]


def sample(
    prompts: list[list[int]],
    policy: Policy,
    block_size: int = 8,
    *,
    revision: Revision | None = None,
    end_bias: float = -1.0,
    past: Past = Cached,
    temperature: float = 0.0,
    seeds: list[int] | None = None,
) -> list[Generation]:
    return sample_blocks(
        make_model(end_bias),
        make_tokenizer(),
        prompts,
        block_size=block_size,
        policy=policy,
        max_new_tokens=32,
        revision=revision,
        temperature=temperature,
        seeds=seeds,
        past=past,
    )


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("block_size", [1, 4, 8, 32])
@pytest.mark.parametrize(
    "policy", [commit_above(1.0), commit_above(0.6), commit_evenly(3)], ids=["one", "0.6", "steps"]
)
@pytest.mark.parametrize("end_bias", [-1.0, 0.35])
def test_cached_equals_uncached(
    policy: Policy, block_size: int, temperature: float, end_bias: float
) -> None:
    fast, folded, slow = (
        sample(
            PROMPTS[:2],
            policy,
            block_size,
            temperature=temperature,
            end_bias=end_bias,
            past=past,
        )
        for past in (UNFOLDED, Cached, Uncached)
    )
    for other in (folded, slow):
        assert [g.token_ids for g in fast] == [g.token_ids for g in other]
        assert [g.finish_reason for g in fast] == [g.finish_reason for g in other]
        assert [g.nfe_denoise for g in fast] == [g.nfe_denoise for g in other]
        assert [g.nfe_commit for g in other] == [0, 0]
    assert end_bias > 0 or all(len(g.token_ids) == 32 for g in fast)


CAUSAL_PAST = replace(SIZES["test"], causal_past=True)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("revision", [None, edit_above(0.3, 4), remask_above(0.3, 4)])
@pytest.mark.parametrize("end_bias", [-1.0, 0.35])
@pytest.mark.parametrize("rows", [slice(4), slice(1, 2), slice(3, 4)])
def test_a_causal_past_is_read_as_its_definition_says(
    rows: slice, end_bias: float, revision: Revision | None, temperature: float
) -> None:
    fast, folded, slow = (
        sample_blocks(
            make_model(end_bias, config=CAUSAL_PAST),
            make_tokenizer(),
            PROMPTS[rows],
            block_size=8,
            policy=commit_above(0.6),
            revision=revision,
            max_new_tokens=32,
            temperature=temperature,
            seeds=list(range(4))[rows],
            past=past,
        )
        for past in (UNFOLDED, Cached, Uncached)
    )
    for a, b, c in zip(fast, folded, slow, strict=True):
        assert a.token_ids == b.token_ids == c.token_ids
        assert a.step_commits == b.step_commits == c.step_commits
        assert a.step_edits == b.step_edits == c.step_edits


@pytest.mark.parametrize("end_bias", [-1.0, 0.35])
def test_on_a_causal_past_blocks_of_one_token_are_the_autoregressive_twin(end_bias: float) -> None:
    model, tokenizer = make_model(end_bias, config=CAUSAL_PAST), make_tokenizer()
    blocks = sample_blocks(
        model, tokenizer, PROMPTS, block_size=1, policy=commit_above(1.0), max_new_tokens=32
    )
    twin = sample_tokens(model, tokenizer, PROMPTS, max_new_tokens=32)
    assert [g.token_ids for g in blocks] == [g.token_ids for g in twin]


@pytest.mark.skipif(not is_available("cpu"), reason="this PyTorch has no oneDNN")
@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize(
    "config",
    [SIZES["test"], replace(SIZES["test"], tie_embeddings=False, qkv_bias=True)],
    ids=["tied", "head and biases"],
)
def test_packed_weights_give_the_same_tokens(config: ModelConfig, temperature: float) -> None:
    plain = make_model(config=config)
    packed = copy.deepcopy(plain)
    packed.pack()
    texts = [
        sample_blocks(
            model,
            make_tokenizer(),
            PROMPTS,
            block_size=8,
            policy=commit_above(0.6),
            max_new_tokens=32,
            temperature=temperature,
        )
        for model in (plain, packed)
    ]
    assert [g.token_ids for g in texts[0]] == [g.token_ids for g in texts[1]]
    assert not any(isinstance(module, torch.nn.Linear) for module in packed.modules())


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("top_p", [1.0, 0.9])
@pytest.mark.parametrize(
    "config",
    [SIZES["test"], replace(SIZES["test"], tie_embeddings=False, qkv_bias=True)],
    ids=["tied", "head and biases"],
)
def test_quantised_weights_give_the_tokens_of_rounded_ones(
    config: ModelConfig, top_p: float, temperature: float
) -> None:
    plain = make_model(config=config)
    quantised = copy.deepcopy(plain)
    quantised.quantise()
    rounded = Transformer(replace(config, tie_embeddings=False))  # the embedding is not rounded
    rounded.load_state_dict({"head.weight": plain.head_weight, **plain.state_dict()})
    with torch.no_grad():
        for matrix in (rounded.head.weight, *rounded.blocks.parameters()):
            if matrix.dim() == 2:
                matrix.copy_(quantise(matrix).dequantise())
    tokens = []
    for model in (quantised, rounded, plain):
        blocks = sample_blocks(
            model,
            make_tokenizer(),
            PROMPTS,
            block_size=8,
            policy=commit_above(0.6),
            max_new_tokens=32,
            temperature=temperature,
            top_p=top_p,
        )
        one_by_one = sample_tokens(
            model,
            make_tokenizer(),
            PROMPTS,
            max_new_tokens=32,
            temperature=temperature,
            top_p=top_p,
        )
        tokens.append([g.token_ids for g in (*blocks, *one_by_one)])
    assert tokens[0] == tokens[1]
    assert tokens[0] != tokens[2]
    assert not any(isinstance(module, torch.nn.Linear) for module in quantised.modules())


REVISIONS = {
    "edit": edit_above(0.3, 6),
    "remask": remask_above(0.3, 6),
    "remdm-cap": remask_on_schedule("cap", 0.4, 4),
    "remdm-conf": remask_on_schedule("conf", 1.0, 4),
}


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("end_bias", [-1.0, 0.35])
@pytest.mark.parametrize("name", REVISIONS)
def test_revised_tokens_do_not_depend_on_cache_or_batch(
    name: str, end_bias: float, temperature: float
) -> None:
    policy = commit_evenly(4) if name.startswith("remdm") else commit_above(0.5)
    seeds = [5, 6, 7, 8]

    def run(rows: slice, past: Past) -> list[Generation]:
        return sample(
            PROMPTS[rows],
            policy,
            revision=REVISIONS[name],
            end_bias=end_bias,
            temperature=temperature,
            seeds=seeds[rows],
            past=past,
        )

    together, slow = run(slice(4), Cached), run(slice(4), Uncached)
    for row, (fast, plain) in enumerate(zip(together, slow, strict=True)):
        (alone,) = run(slice(row, row + 1), Cached)
        for other in (plain, alone):
            assert other.token_ids == fast.token_ids
            assert other.finish_reason == fast.finish_reason
            assert other.step_commits == fast.step_commits
            assert other.step_edits == fast.step_edits
            assert other.step_remasks == fast.step_remasks
        assert alone.nfe_commit == fast.nfe_commit
        assert fast.nfe_denoise == len(fast.step_commits)
    revised = sum(sum(g.step_edits) + sum(g.step_remasks) for g in together)
    assert revised > 4  # the test would be empty without
    assert sum(sum(g.step_edits) for g in together) == (revised if name == "edit" else 0)


def test_budget_bounds_the_revisions_and_the_steps_of_a_block() -> None:
    for name in ("edit", "remask"):
        revision = REVISIONS[name]
        (generation,) = sample(PROMPTS[:1], commit_above(0.9), revision=revision)
        revised = sum(generation.step_edits) + sum(generation.step_remasks)
        assert 0 < revised <= 4 * 6, name
        assert generation.nfe_denoise <= 4 * (8 + 6 + 1), name
        assert sum(generation.step_commits) == 32 + sum(generation.step_remasks), name


@pytest.mark.parametrize("schedule", ["cap", "rescale", "conf"])
@pytest.mark.parametrize("num_steps", [4, 8, 20])
def test_remasking_on_a_schedule_ends_with_it(schedule: Schedule, num_steps: int) -> None:
    frames: list[tuple[int, list[int]]] = []
    (generation,) = sample_blocks(
        make_model(),
        make_tokenizer(),
        PROMPTS[:1],
        block_size=8,
        policy=commit_evenly(num_steps),
        max_new_tokens=32,
        revision=remask_on_schedule(schedule, 0.5, num_steps),
        on_step=lambda start, block: frames.append((start, block[0].tolist())),
    )
    assert sum(generation.step_remasks) > 4
    assert len(generation.token_ids) == 32
    steps = collections.Counter(start for start, _ in frames)
    assert max(steps.values()) <= num_steps
    assert num_steps > 8 or set(steps.values()) == {num_steps}


def test_editing_that_never_happens_changes_nothing_and_its_check_fills_the_cache() -> None:
    policy = commit_above(0.6)
    (plain,) = sample(PROMPTS[:1], policy, past=UNFOLDED)
    (checked,) = sample(PROMPTS[:1], policy, past=UNFOLDED, revision=edit_above(1.0, 4))
    assert checked.token_ids == plain.token_ids
    assert not sum(checked.step_edits)
    assert checked.nfe_denoise == plain.nfe_denoise + 4  # each of four blocks is read once more
    assert (plain.nfe_commit, checked.nfe_commit) == (3, 0)


@functools.cache
def make_labeller() -> tuple[Transformer, CodeTokenizer]:
    """A random model that often says DELETE and INSERT."""
    plain, control = make_tokenizer(), ControlIds(60, 61)
    model = copy.deepcopy(make_model(0.35))
    model.embedding.weight.data[list(control)] *= 2
    special_ids = (plain.pad_id, plain.end_id, plain.mask_id)
    return model, CodeTokenizer(plain.inner, special_ids, control)


def sample_labels(
    rows: slice, past: Past, frames: list[tuple[int, list[int]]] | None = None
) -> list[Generation]:
    model, tokenizer = make_labeller()
    return sample_blocks(
        model,
        tokenizer,
        PROMPTS[rows],
        block_size=8,
        policy=commit_above(0.5),
        max_new_tokens=32,
        revision=label_above(0.3, 6),
        seeds=[5, 6, 7, 8][rows],
        past=past,
        on_step=None
        if frames is None
        else lambda start, block: frames.append((start, block[0].tolist())),
    )


def test_labelled_tokens_do_not_depend_on_cache_or_batch_and_are_text() -> None:
    together, slow = sample_labels(slice(4), Cached), sample_labels(slice(4), Uncached)
    unfolded = sample_labels(slice(4), UNFOLDED)
    for row, fast in enumerate(together):
        (alone,) = sample_labels(slice(row, row + 1), Cached)
        for other in (slow[row], unfolded[row], alone):
            assert other.token_ids == fast.token_ids
            assert other.step_commits == fast.step_commits
            assert other.step_edits == fast.step_edits
        assert not {2, 60, 61} & set(fast.token_ids)
        assert sum(fast.step_edits) <= 4 * 6
        assert fast.nfe_denoise <= 4 * (8 + 2 * 6 + 1)
    assert sum(sum(g.step_edits) for g in together) > 10


def test_labels_move_tokens_of_full_blocks_and_leave_finished_ones_alone() -> None:
    """Frame by frame: what changes is the present block, and a control token is never seen."""
    frames: list[tuple[int, list[int]]] = []
    (generation,) = sample_labels(slice(1), Cached, frames)
    starts = [start for start, _ in frames]
    assert starts == sorted(starts)
    text: list[int] = []
    num_reopened = 0
    for index, (start, block) in enumerate(frames):
        assert not {60, 61} & set(block)
        before = frames[index - 1][1] if index and frames[index - 1][0] == start else [2] * 8
        if 2 in before:  # only commits
            assert all(x in (y, 2) for x, y in zip(before, block, strict=True))
        num_reopened += 2 not in before and 2 in block
        if index + 1 == len(frames) or frames[index + 1][0] != start:
            text += block
    assert num_reopened > 0
    end_id = make_tokenizer().end_id
    assert generation.token_ids == text[: text.index(end_id) if end_id in text else None]


def test_labels_need_a_model_that_knows_them_and_a_text_without_a_gap() -> None:
    with pytest.raises(ValueError, match="needs a checkpoint trained with edit_lengths='labels'"):
        sample(PROMPTS[:1], commit_above(0.5), revision=label_above(0.5, 4))
    model, tokenizer = make_labeller()
    canvas = torch.tensor([[tokenizer.mask_id] * 6 + [20, 21]])
    with pytest.raises(ValueError, match="given text must stay"):
        sample_blocks(
            model, tokenizer, PROMPTS[:1], block_size=8, policy=commit_above(0.5),
            max_new_tokens=8, revision=label_above(0.5, 4), canvas=canvas,
        )  # fmt: skip


@pytest.mark.parametrize("name", ["edit", "label"])
def test_a_finished_draft_is_revised_where_it_may_be(name: str) -> None:
    model, tokenizer = make_labeller()
    revision = {"edit": edit_above(0.3, 3), "label": label_above(0.3, 3)}[name]
    draft = torch.tensor([[10, 11, 12, 13, 14, 15, 16, tokenizer.end_id]] * 2)
    is_draft = torch.tensor([[True] * 8, [False] * 8])
    blocks, generations = [], []
    for past in (Cached, Uncached):
        block, results = draft.clone(), [Generation(), Generation()]
        prompt, lengths = torch.tensor([[20, 21, 22]] * 2), torch.tensor([3, 3])
        denoise_block(
            past(model, prompt, lengths, block),
            tokenizer,
            block,
            commit_above(0.5),
            start_revision(revision, tokenizer, 2, block.device),
            make_select(model.head_operand, tokenizer, 0.0),
            torch.zeros_like(block),
            results,
            None,
            is_draft=is_draft,
        )
        blocks.append(block)
        generations.append(results)
    assert torch.equal(*blocks)
    assert generations[0] == generations[1]
    (revised, given), (moved, kept) = blocks[0], generations[0]
    assert torch.equal(given, draft[1])
    assert kept.nfe_denoise == 0
    assert not torch.equal(revised, draft[0])
    assert 0 < sum(moved.step_edits) <= 3
    assert not {2, 60, 61} & set(revised.tolist())


@pytest.mark.parametrize("max_steps", [1, 3, 5])
def test_a_budget_of_steps_is_kept_and_the_threshold_may_need_fewer(max_steps: int) -> None:
    (bounded,) = sample(PROMPTS[:1], commit_above(0.9, max_steps))
    assert bounded.nfe_denoise <= 4 * max_steps
    (loose,) = sample(PROMPTS[:1], commit_above(0.0, max_steps))
    assert loose.nfe_denoise == 4
    (free,) = sample(PROMPTS[:1], commit_above(0.9))
    (wide,) = sample(PROMPTS[:1], commit_above(0.9, 8))
    assert wide.token_ids == free.token_ids


@pytest.mark.parametrize("end_bias", [-1.0, 0.35])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_row_does_not_depend_on_its_batch(temperature: float, end_bias: float) -> None:
    seeds = [5, 6, 7, 8]
    policy = commit_above(0.6)
    together = sample(PROMPTS, policy, temperature=temperature, seeds=seeds, end_bias=end_bias)
    for prompt, seed, generation in zip(PROMPTS, seeds, together, strict=True):
        (alone,) = sample(
            [prompt], policy, temperature=temperature, seeds=[seed], end_bias=end_bias
        )
        assert alone.token_ids == generation.token_ids
        assert alone.nfe_denoise == generation.nfe_denoise
        assert alone.nfe_commit == generation.nfe_commit
        assert alone.finish_reason == generation.finish_reason
        assert alone.commit_tokens == generation.commit_tokens


@pytest.mark.parametrize("end_bias", [-1.0, 0.35])
@pytest.mark.parametrize("is_replayed", [False, True])
def test_greedy_tokens_are_equal_at_batch_1_2_and_8(is_replayed: bool, end_bias: float) -> None:
    prompts = [[*prompt, 50 + row] for row, prompt in enumerate(2 * PROMPTS)]
    replayer = Replayer(make_model(end_bias), make_tokenizer())

    def run(rows: list[list[int]]) -> list[list[int]]:
        if is_replayed:
            generations = replayer.sample(rows, block_size=8, rule=Rule(0.6), max_new_tokens=32)
        else:
            generations = sample(rows, commit_above(0.6), end_bias=end_bias)
        return [generation.token_ids for generation in generations]

    alone, by_two, by_eight = (
        [ids for first in range(0, 8, size) for ids in run(prompts[first : first + size])]
        for size in (1, 2, 8)
    )
    assert alone == by_two == by_eight
    assert len(set(map(tuple, alone))) > 4


def test_one_token_per_forward_and_counts() -> None:
    (generation,) = sample(PROMPTS[:1], commit_above(1.0), past=UNFOLDED)
    assert generation.finish_reason == "length"
    assert len(generation.token_ids) == 32
    assert generation.nfe_denoise == 32
    assert generation.nfe_prefill == 1
    assert generation.nfe_commit == 3  # of four blocks, the last one is nobody's past
    assert generation.commit_tokens == [8, 8, 8, 8]
    assert generation.commit_times_s == sorted(generation.commit_times_s)


@pytest.mark.parametrize(("num_steps", "expected"), [(1, 4), (3, 12), (8, 32), (20, 32)])
def test_fixed_steps_take_that_many(num_steps: int, expected: int) -> None:
    (generation,) = sample(PROMPTS[:1], commit_evenly(num_steps))
    assert generation.nfe_denoise == expected


def test_threshold_zero_commits_a_block_at_once() -> None:
    (generation,) = sample(PROMPTS[:1], commit_above(0.0))
    assert generation.nfe_denoise == 4


def test_a_lower_threshold_never_needs_more_forwards_here() -> None:
    counts = [sample(PROMPTS[:1], commit_above(t))[0].nfe_denoise for t in (1.0, 0.9, 0.5, 0.1)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[-1]


def test_generation_stops_at_the_end_token() -> None:
    generations = sample(PROMPTS, commit_above(0.6), end_bias=0.35)
    assert any(g.finish_reason == "stop" for g in generations)
    for generation in generations:
        assert make_tokenizer().end_id not in generation.token_ids
        assert make_tokenizer().mask_id not in generation.token_ids
        assert sum(generation.commit_tokens) == len(generation.token_ids)


def test_tail_of_end_tokens_is_one_decision() -> None:
    is_end = torch.tensor([[0, 1, 0, 1, 1, 1], [1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0]]).bool()
    expected = torch.tensor([[0, 0, 0, 0, 1, 1], [0, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0]]).bool()
    assert torch.equal(is_behind_tail_start(is_end), expected)


def test_policies_commit_the_best_and_only_open_positions() -> None:
    confidence = torch.tensor([[0.2, 0.9, -1.0, 0.5], [-1.0, -1.0, -1.0, -1.0]])
    is_open = torch.tensor([[True, True, True, True], [False, False, False, False]])
    assert commit_above(0.4)(confidence, is_open, 0)[0].tolist() == [False, True, False, True]
    assert commit_above(1.0)(confidence, is_open, 0)[0].tolist() == [False, True, False, False]
    assert commit_evenly(2)(confidence, is_open, 0)[0].tolist() == [False, True, False, True]
    assert commit_evenly(1)(confidence, is_open, 0)[0].tolist() == [True, True, False, True]
    for policy in (commit_above(0.0), commit_evenly(1)):
        assert not policy(confidence, is_open, 0)[1].any()


def test_each_step_is_shown() -> None:
    frames: list[tuple[int, int]] = []
    mask_id = make_tokenizer().mask_id
    sample_blocks(
        make_model(),
        make_tokenizer(),
        PROMPTS[:1],
        block_size=8,
        policy=commit_above(1.0),
        max_new_tokens=16,
        on_step=lambda start, block: frames.append((start, int((block == mask_id).sum()))),
    )
    assert frames == [(start, left) for start in (0, 8) for left in reversed(range(8))]


@pytest.mark.parametrize(
    ("block_size", "max_new_tokens", "message"),
    [
        (48, 100, "does not divide max_new_tokens=100; use 4"),
        (0, 32, "block_size=0"),
        (8, 0, "max_new_tokens=0"),
        (8, 128, "at most 123"),
    ],
)
def test_canvas_that_does_not_fit_is_refused(
    block_size: int, max_new_tokens: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        sample_blocks(
            make_model(),
            make_tokenizer(),
            PROMPTS[:1],
            block_size=block_size,
            policy=commit_above(1.0),
            max_new_tokens=max_new_tokens,
        )


def test_empty_prompt_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one token"):
        sample([[]], commit_above(1.0))


def decode_plainly(prompt: list[int], end_bias: float) -> list[int]:
    """Greedy decoding by a full causal forward per token."""
    model, tokenizer = make_model(end_bias), make_tokenizer()
    ids = list(prompt)
    for _ in range(32):
        logits = model(torch.tensor([ids]), is_causal=True)[0, -1] @ model.head_weight.T
        logits[tokenizer.mask_id] = -torch.inf
        token_id = int(logits.argmax())
        if token_id == tokenizer.end_id:
            break
        ids.append(token_id)
    return ids[len(prompt) :]


@pytest.mark.parametrize("end_bias", [-1.0, 0.35])
def test_autoregressive_sampling_equals_plain_decoding_in_any_batch(end_bias: float) -> None:
    expected = [decode_plainly(prompt, end_bias) for prompt in PROMPTS]
    model, tokenizer = make_model(end_bias), make_tokenizer()
    together = sample_tokens(model, tokenizer, PROMPTS, max_new_tokens=32)
    assert [g.token_ids for g in together] == expected
    for prompt, ids, generation in zip(PROMPTS, expected, together, strict=True):
        (alone,) = sample_tokens(model, tokenizer, [prompt], max_new_tokens=32)
        assert alone.token_ids == ids
        assert alone.nfe_denoise == generation.nfe_denoise == min(len(ids), 31)
        assert sum(generation.commit_tokens) == len(ids)


def test_prompt_may_be_made_of_blocks_of_its_own() -> None:
    kinds = [functools.partial(kind, prompt_block_size=4) for kind in (Cached, Uncached)]
    fast, slow = (sample(PROMPTS, commit_above(0.6), past=past) for past in kinds)
    assert [g.token_ids for g in fast] == [g.token_ids for g in slow]
    for row, prompt in enumerate(PROMPTS):
        (alone,) = sample([prompt], commit_above(0.6), past=kinds[0])
        assert alone.token_ids == fast[row].token_ids
    whole = sample(PROMPTS, commit_above(0.6))
    differs = [a.token_ids != b.token_ids for a, b in zip(whole, fast, strict=True)]
    assert differs == [True, False, True, False]  # where the prompt is longer than a block
