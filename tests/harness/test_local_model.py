"""Our models behind the generator protocol: what identifies them, and when their clock starts."""

import dataclasses
import re
import time
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from sdb_harness.benchmarks import Gap
from sdb_harness.cli_model import generate
from sdb_harness.errors import UserError
from sdb_harness.generators import Prompted, load_generator
from sdb_harness.generators.local_model import LocalModel
from sdb_harness.records import Problem, SamplingConfig
from sdb_harness.timing import check_times
from sdb_kernels.backend import choose
from sdb_reference_model.autoregressive import sample_tokens
from sdb_reference_model.checkpoint import Objective, load_checkpoint, save_checkpoint
from sdb_reference_model.model import ModelConfig, Transformer
from sdb_reference_model.policies import commit_above
from sdb_reference_model.sampler import sample_blocks
from sdb_reference_model.tokenizer import CodeTokenizer
from sdb_sandboxes.types import FunctionCheck

DIFFUSION = SamplingConfig(max_new_tokens=8, block_size=4, threshold=1.0)
AUTOREGRESSIVE = SamplingConfig(max_new_tokens=8)


@pytest.fixture(params=["seed_diffusion", "autoregressive"])
def spec(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return make_checkpoint(request.param, tmp_path)


def make_checkpoint(name: str, folder: Path) -> str:
    """Write a tiny one of random weights; return the generator that reads it."""
    tokenizer = CodeTokenizer.train(["ab"], 300)
    model = Transformer(ModelConfig(tokenizer.vocab_size, 32, 1, 4, 2, 64, 128))
    model.initialise(torch.Generator().manual_seed(0))
    objective: Objective = "diffusion" if name == "seed_diffusion" else "autoregressive"
    save_checkpoint(folder / "model", model, tokenizer, objective, {})
    return f"{name}:{folder / 'model'}"


def test_another_number_of_threads_is_another_engine(
    spec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines = []
    for num_threads in (1, 2):
        monkeypatch.setattr(torch, "get_num_threads", lambda num=num_threads: num)
        engines.append(load_generator(spec).engine)
    assert engines[0] != engines[1]
    assert torch.__version__ in engines[0]
    assert "head_select=" in engines[0]
    assert load_generator(spec).engine == engines[1]


def test_a_draft_changes_forwards_and_not_tokens(tmp_path: Path) -> None:
    spec = make_checkpoint("autoregressive", tmp_path)
    blocks = make_checkpoint("seed_diffusion", tmp_path / "blocks").partition(":")[2]
    problem = Problem("p/0", "def f():\n", "    pass\n", "f", FunctionCheck("f", ()))
    batch = [Prompted(problem, problem.prompt, i, seed=i) for i in range(2)]
    sampling = AUTOREGRESSIVE.model_copy(update={"max_new_tokens": 24, "temperature": 1.0})
    plain = load_generator(spec)
    expected = dict(plain.generate(batch, sampling))
    for option in ("sampler=lookup", f"draft={blocks}", f"draft={spec.partition(':')[2]}"):
        guessing = load_generator(f"{spec},{option}")
        assert guessing.engine.startswith(f"{plain.engine} {option}")
        for index, completion in guessing.generate(batch, sampling):
            assert completion.token_ids == expected[index].token_ids
            assert completion.finish_reason == expected[index].finish_reason
            # A forward that judges commits once; those of a draft model count too.
            num_rounds = len(completion.commit_tokens)
            assert option == "sampler=lookup" or completion.nfe_denoise > num_rounds
    with pytest.raises(UserError, match=r"^autoregressive: draft=; a name belongs there$"):
        load_generator(f"{spec},draft=")
    with pytest.raises(ValueError, match="draft=demo has another tokenizer; use one trained with"):
        load_generator(f"{spec},draft=demo")
    with pytest.raises(ValueError, match="no checkpoint 'demi'"):
        load_generator(f"{spec},draft=demi")
    with pytest.raises(ValueError, match="draft=demo is a sampler too; leave out sampler="):
        load_generator(f"{spec},draft=demo,sampler=lookup")


def test_weights_in_8_bits_are_another_cell_and_the_answer_of_the_quantised_model(
    spec: str,
) -> None:
    plain, quantised = load_generator(spec), load_generator(f"{spec},weights=e4m3")
    assert load_generator(f"{spec},weights=float32").precision == plain.precision == "float32"
    assert quantised.precision == "float32, e4m3 weights"
    assert quantised.implementations["weights"] == "e4m3"
    assert quantised.revision == plain.revision  # the same files
    problem = Problem("p/0", "def f():\n", "    pass\n", "f", FunctionCheck("f", ()))
    batch = [Prompted(problem, problem.prompt, 0, seed=0)]
    is_diffusion = spec.startswith("seed")
    ((_, completion),) = quantised.generate(batch, DIFFUSION if is_diffusion else AUTOREGRESSIVE)
    checkpoint = load_checkpoint(spec.partition(":")[2])
    checkpoint.model.quantise()
    tokenizer, prompts = checkpoint.tokenizer, [checkpoint.tokenizer.encode("def f():\n")]
    if is_diffusion:
        (expected,) = sample_blocks(
            checkpoint.model,
            tokenizer,
            prompts,
            block_size=4,
            policy=commit_above(1.0),
            max_new_tokens=8,
        )
    else:
        (expected,) = sample_tokens(checkpoint.model, tokenizer, prompts, max_new_tokens=8)
    assert list(completion.token_ids) == expected.token_ids


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("weight=e4m3", r"unknown option 'weight'; did you mean 'weights'\? allowed: .*weights"),
        ("weights=e4m2", r"weights=e4m2; did you mean 'e4m3'\? allowed: bfloat16, e4m3, float32"),
        ("weights", "weights=; allowed: bfloat16, e4m3, float32"),
        ("weights=e4m3,weights=e4m3", "weights given twice; write it once"),
    ],
)
@pytest.mark.parametrize("name", ["seed_diffusion", "autoregressive"])
def test_options_that_cannot_be_read_are_one_line(name: str, options: str, message: str) -> None:
    with pytest.raises(UserError, match=f"^{name}: {message}$"):
        load_generator(f"{name}:demo,{options}")


def test_replays_are_asked_for_recorded_and_the_same_answer(tmp_path: Path) -> None:
    spec = make_checkpoint("seed_diffusion", tmp_path)
    plain, replayed = load_generator(spec), load_generator(f"{spec},sampler=replayed")
    assert load_generator(f"{spec},sampler=blocks").engine == plain.engine
    if not torch.cuda.is_available():
        assert plain.implementations["sampler"] == "blocks"
        assert replayed.engine != plain.engine
    assert replayed.engine.endswith(" sampler=replayed")
    problem = Problem("p/0", "def f():\n", "    pass\n", "f", FunctionCheck("f", ()))
    batch = [Prompted(problem, text, i, seed=i) for i, text in enumerate(("def f():\n", "x"))]
    answers = []
    from_left = DIFFUSION.model_copy(update={"threshold": None, "policy": "prefix:0.5"})
    for generator in (plain, replayed):
        generator.warm_up(batch, DIFFUSION)
        answers.append(
            [
                completion
                for sampling in (DIFFUSION, from_left)
                for _, completion in generator.generate(batch, sampling)
            ]
        )
    how = "CUDA graph" if torch.cuda.is_available() else "eager"
    attention = choose("block_attention", None, "cuda" if torch.cuda.is_available() else "cpu")
    assert replayed.implementations["sampler"] == (
        f"replayed, {how}, poll_every=4, block_attention={attention}"
    )
    for ours, theirs in zip(*answers, strict=True):
        check_times(theirs)
        for name in ("text", "token_ids", "finish_reason", "nfe_prefill", "nfe_denoise"):
            assert getattr(ours, name) == getattr(theirs, name)


def test_replays_that_cannot_run_are_one_line_if_asked_for(tmp_path: Path) -> None:
    generator = load_generator(f"{make_checkpoint('seed_diffusion', tmp_path)},sampler=replayed")
    assert isinstance(generator, LocalModel)
    for suffixes, update, message in (
        (None, {"temperature": 0.5}, "temperature=0.5, and it takes the most probable token"),
        (None, {"threshold": None, "num_steps": 2}, "it commits by a threshold alone; set"),
        (None, {"threshold": None, "policy": "top:2"}, "it commits by a threshold alone; set"),
        (None, {"block_size": 512, "max_new_tokens": 512}, "block_size=512 is above 256"),
        ([[2]], {}, "it fills no gaps"),
    ):
        sampling = DIFFUSION.model_copy(update=update)
        with pytest.raises(ValueError, match=f"^sampler=replayed cannot run: {message}"):
            generator.sample(generator.checkpoint, [[1]], suffixes, [0], sampling)
    with pytest.raises(UserError, match="sampler=graph; allowed: blocks, compiled, replayed"):
        load_generator("seed_diffusion:demo,sampler=graph")
    twin = load_generator(f"{make_checkpoint('autoregressive', tmp_path)},sampler=replayed")
    assert isinstance(twin, LocalModel)
    for suffixes, update, message in (
        (None, {"temperature": 0.5, "top_p": 0.5}, "top_p=0.5, and it draws from all tokens"),
        ([[2]], {}, "it fills no gaps"),
    ):
        sampling = AUTOREGRESSIVE.model_copy(update=update)
        line = f"^sampler=replayed cannot run: {message}; use sampler=tokens$"
        with pytest.raises(ValueError, match=line):
            twin.sample(twin.checkpoint, [[1]], suffixes, [0], sampling)


def test_the_twin_gives_the_same_answer_however_it_is_sampled(tmp_path: Path) -> None:
    spec = make_checkpoint("autoregressive", tmp_path)
    problem = Problem("p/0", "def f():\n", "    pass\n", "f", FunctionCheck("f", ()))
    batch = [Prompted(problem, text, i, seed=i) for i, text in enumerate(("def f():\n", "x"))]
    answers = []
    for sampler in ("tokens", "replayed", "lookup"):
        generator = load_generator(f"{spec},sampler={sampler}")
        assert isinstance(generator, LocalModel)
        completions = [completion for _, completion in generator.generate(batch, AUTOREGRESSIVE)]
        assert generator.implementations["sampler"].startswith(sampler)
        answers.append([(c.token_ids, c.finish_reason) for c in completions])
        assert generator.engine.endswith(f" sampler={sampler}") == (sampler != "tokens")
    assert answers[0] == answers[1] == answers[2]


def test_bfloat16_is_another_cell(spec: str) -> None:
    generator = load_generator(f"{spec},weights=bfloat16")
    assert isinstance(generator, LocalModel)
    assert generator.precision == generator.implementations["weights"] == "bfloat16"
    assert generator.checkpoint.model.embedding.weight.dtype == torch.bfloat16
    problem = Problem("p/0", "def f():\n", "    pass\n", "f", FunctionCheck("f", ()))
    sampling = DIFFUSION if spec.startswith("seed") else AUTOREGRESSIVE
    batch = [Prompted(problem, problem.prompt, 0, seed=0)]
    ((_, completion),) = generator.generate(batch, sampling)
    assert 0 < completion.output_tokens <= 8


def test_a_model_that_cannot_be_replayed_says_so_when_it_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = make_checkpoint("seed_diffusion", tmp_path)
    checkpoint = dataclasses.replace(
        load_checkpoint(spec.partition(":")[2]), attention="block_causal_prompt"
    )
    monkeypatch.setattr("sdb_harness.generators.local_model.load_checkpoint", lambda *_: checkpoint)
    with pytest.raises(
        ValueError, match=r"is diffusion and block_causal_prompt, not block_causal or"
    ):
        load_generator(f"{spec},sampler=replayed")
    assert load_generator(spec).implementations["sampler"] == "blocks"


def test_generate_can_be_told_to_replay(tmp_path: Path) -> None:
    folder = make_checkpoint("seed_diffusion", tmp_path).partition(":")[2]
    call = ["def f():\n", "--checkpoint", folder, "--block-size", "4", "--max-new-tokens", "16"]
    outputs = []
    for sampler in ("blocks", "replayed"):
        result = CliRunner().invoke(generate, [*call, "--sampler", sampler])
        assert result.exit_code == 0, result.output
        outputs.append(re.sub(r" in .* s;", "", result.output))
    assert outputs[0] == outputs[1]
    result = CliRunner().invoke(generate, [*call, "--sampler", "replayed", "--show"])
    assert "sampler=replayed cannot run: it shows no steps" in str(result.exception)


def test_generate_takes_weights_in_8_bits(tmp_path: Path) -> None:
    folder = make_checkpoint("seed_diffusion", tmp_path).partition(":")[2]
    call = ["def f():\\n", "--checkpoint", folder, "--block-size", "4", "--max-new-tokens", "96"]
    outputs = []
    for weights in ([], ["--weights", "float32"], ["--weights", "e4m3"]):
        result = CliRunner().invoke(generate, [*call, *weights])
        assert result.exit_code == 0, result.output
        outputs.append(re.sub(r" in .* s;", "", result.output))
    assert outputs[0] == outputs[1] != outputs[2]
    assert CliRunner().invoke(generate, [*call, "--weights", "fp8"]).exit_code == 2


def test_time_runs_from_submission_and_counts_encoding(
    spec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = load_generator(spec)
    problem = Problem("p/0", "def f():\n", "    pass\n", "f", FunctionCheck("f", ()))
    batch = [Prompted(problem, problem.prompt, 0, seed=0)]
    sampling = DIFFUSION if spec.startswith("seed") else AUTOREGRESSIVE
    encode, shift_s = CodeTokenizer.encode, 1000.0
    now, jumps = time.perf_counter, [0.0]

    def encode_slowly(self: CodeTokenizer, text: str) -> list[int]:
        jumps[0] += shift_s
        return encode(self, text)

    monkeypatch.setattr(CodeTokenizer, "encode", encode_slowly)
    monkeypatch.setattr(time, "perf_counter", lambda: now() + jumps[0])
    ((_, completion),) = generator.generate(batch, sampling)
    check_times(completion)
    assert shift_s < completion.commit_times_s[0] <= completion.e2e_s < 2 * shift_s
    assert completion.output_tokens == len(completion.token_ids)


def test_a_prompt_that_does_not_fit_is_refused_and_its_neighbours_are_answered(spec: str) -> None:
    generator = load_generator(spec)
    problem = Problem("p/0", "", "", "f", FunctionCheck("f", ()))
    prompts = ["def f():\n", "x = 'far too long for this model'\n" * 20, "def g():\n"]
    sampling = DIFFUSION if spec.startswith("seed") else AUTOREGRESSIVE
    batch = [Prompted(problem, prompt, 0, seed=0) for prompt in prompts]
    answers = dict(generator.generate(batch, sampling))
    assert answers.keys() == {0, 1, 2}
    assert [answers[i].finish_reason == "refused" for i in range(3)] == [False, True, False]
    assert answers[1].text == ""
    assert "leave room for 120" in answers[1].error
    check_times(answers[1])
    for alone in (0, 2):
        ((_, completion),) = generator.generate([batch[alone]], sampling)
        assert completion.token_ids == answers[alone].token_ids


def test_a_canvas_longer_than_the_model_is_an_error(spec: str) -> None:
    generator = load_generator(spec)
    problem = Problem("p/0", "def f():\n", "", "f", FunctionCheck("f", ()))
    sampling = DIFFUSION if spec.startswith("seed") else AUTOREGRESSIVE
    sampling = sampling.model_copy(update={"max_new_tokens": 128})
    with pytest.raises(ValueError, match="max_seq_len=128"):
        list(generator.generate([Prompted(problem, problem.prompt, 0, seed=0)], sampling))


@pytest.mark.parametrize(
    "policy",
    [
        "top:2",
        "leftmost:2",
        "prefix:0.5",
        "error:0.5",
        "entropy:2",
        "hierarchical:0.5:0.1",
        "edit:0.5:0.5:4",
        "remask:0.5:0.5:4",
        "bounded:0.5:2",
        "remdm-cap:0.5:4",
        "remdm-rescale:0.5:4",
        "remdm-conf:4",
        "pipelined:0.5:0.5",
    ],
)
@pytest.mark.parametrize("top_p", [1.0, 0.5])
def test_every_policy_of_a_sweep_runs(policy: str, top_p: float, tmp_path: Path) -> None:
    spec = make_checkpoint("seed_diffusion", tmp_path)
    problem = Problem("p/0", "def f():\n", "    pass\n", "f", FunctionCheck("f", ()))
    batch = [Prompted(problem, problem.prompt, i, seed=i) for i in range(2)]
    settings = {"max_new_tokens": 8, "block_size": 4, "temperature": 0.7}
    sampling = SamplingConfig.model_validate({**settings, "policy": policy, "top_p": top_p})
    completions = [completion for _, completion in load_generator(spec).generate(batch, sampling)]
    assert len(completions) == 2
    for completion in completions:
        assert completion.finish_reason in ("stop", "length")
        assert completion.output_tokens == len(completion.token_ids) <= 8
        assert completion.nfe_denoise > 0


def test_a_gap_and_a_pipeline_do_not_go_together(tmp_path: Path) -> None:
    generator = load_generator(make_checkpoint("seed_diffusion", tmp_path))
    problem = Problem("p/0", "def f():\n", "    pass\n", "f", FunctionCheck("f", ()))
    sampling = SamplingConfig(max_new_tokens=8, block_size=4, policy="pipelined:0.5:0.5")
    batch = [Prompted(problem, Gap("def f():\n", "\n"), 0, seed=0)]
    with pytest.raises(ValueError, match="needs a block-causal model and a text without a gap"):
        list(generator.generate(batch, sampling))


def test_a_full_gpu_says_what_fits_in_one_line(spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = load_generator(spec)

    def run_out(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate\na lot")

    monkeypatch.setattr(generator, "sample", run_out)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (1 << 30, 1 << 31))
    problem = Problem("p/0", "def f():\n", "    pass\n", "f", FunctionCheck("f", ()))
    batch = [Prompted(problem, problem.prompt, i, seed=i) for i in range(3)]
    with pytest.raises(ValueError, match=r"out of GPU memory: 3 rows .*batch_size=2 should fit$"):
        list(generator.generate(batch, DIFFUSION if "seed" in spec else AUTOREGRESSIVE))
