"""The transformers generator on a tiny random model that is written to disk here."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    TopPLogitsWarper,
)

from sdb_harness.benchmarks import ChatMessage, Gap, Prompt
from sdb_harness.errors import UserError
from sdb_harness.generators import Prompted, load_generator
from sdb_harness.generators.fim import find_family, write_gap
from sdb_harness.generators.transformers_ar import (
    TransformersModel,
    decode_answer,
    encode_prompt,
    load,
    make_sampler,
)
from sdb_harness.records import Completion, Problem, SamplingConfig
from sdb_harness.timing import check_times
from sdb_sandboxes.types import Case, FunctionCheck

PROBLEM = Problem("p/0", "def f():\n", "    pass\n", "f", FunctionCheck("f", (Case((), None),)))
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    "{% if not loop.last or add_generation_prompt %}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ["<|im_start|>", "<|im_end|>", "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"]
GREEDY = SamplingConfig(max_new_tokens=12)


def write_model(folder: Path, *, has_template: bool = True, length: int = 96) -> Path:
    """256 byte tokens and a few special ones; weights wide enough that no two scores tie."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate(alphabet)}
    inner = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    make_tokenizer: Any = PreTrainedTokenizerFast
    tokenizer = make_tokenizer(
        tokenizer_object=inner, eos_token="<|im_end|>", extra_special_tokens=SPECIAL
    )
    if has_template:
        tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    shape: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        num_attention_heads=4,
        max_position_embeddings=length,
        initializer_range=0.6,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        **shape,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def model(folder: Path) -> TransformersModel:
    generator = load_generator(f"transformers:{folder},dtype=float32,device=cpu")
    assert isinstance(generator, TransformersModel)
    return generator


def ask(
    model: TransformersModel,
    *prompts: Prompt,
    sampling: SamplingConfig = GREEDY,
    stop: tuple[str, ...] = (),
    seed: int = 5,
) -> list[Completion]:
    batch = [
        Prompted(PROBLEM, prompt, number, seed + number, stop)
        for number, prompt in enumerate(prompts)
    ]
    found = dict(model.generate(batch, sampling))
    assert sorted(found) == list(range(len(prompts)))
    for completion in found.values():
        check_times(completion)
    return [found[position] for position in range(len(prompts))]


PROMPTS = ("def f():\n", "x", "import os\nimport sys\n\n")


def test_greedy_tokens_are_the_argmax_of_uncached_forwards(model: TransformersModel) -> None:
    """The slow definition: one whole forward per token, one prompt at a time, no padding."""
    for prompt, completion in zip(PROMPTS, ask(model, *PROMPTS), strict=True):
        ids = encode_prompt(model.tokenizer, prompt)
        wanted: list[int] = []
        for _ in range(GREEDY.max_new_tokens):
            with torch.inference_mode():
                scores = model.model(torch.tensor([ids + wanted])).logits[0, -1]
            token = int(scores.argmax())
            if token in model.end_ids:
                break
            wanted.append(token)
        assert list(completion.token_ids) == wanted
        assert completion.output_tokens == len(wanted)
        assert completion.nfe_prefill == 1
        ended = completion.finish_reason == "stop"
        assert completion.nfe_denoise == len(wanted) - 1 + ended


def test_a_sample_depends_on_its_seed_and_not_on_its_neighbours(model: TransformersModel) -> None:
    sampling = SamplingConfig(max_new_tokens=12, temperature=1.0)
    together = ask(model, *PROMPTS, sampling=sampling)
    alone = [
        ask(model, prompt, sampling=sampling, seed=5 + number)[0]
        for number, prompt in enumerate(PROMPTS)
    ]
    assert [one.token_ids for one in together] == [one.token_ids for one in alone]
    (other,) = ask(model, PROMPTS[0], sampling=sampling, seed=99)
    assert other.token_ids != together[0].token_ids


def test_noise_samples_from_the_softmax() -> None:
    probabilities = torch.tensor([0.5, 0.3, 0.2])
    sampler = make_sampler(2.0, 1.0, list(range(4000)))
    scores = (2.0 * probabilities.log()).expand(4000, 3)  # temperature 2 undoes the factor
    counts = sampler(None, scores).argmax(-1).bincount(minlength=3)
    assert torch.allclose(counts / 4000, probabilities, atol=0.03)
    assert make_sampler(0.0, 1.0, [1])(None, scores) is scores


@pytest.mark.parametrize("top_p", [0.05, 0.6, 0.95])
def test_a_nucleus_is_that_of_transformers(top_p: float) -> None:
    """The same tokens stay as in `TopPLogitsWarper`, with the noise that they have without it."""
    scores = torch.randn(40, 50, generator=torch.Generator().manual_seed(0))
    seeds = list(range(40))
    found = make_sampler(0.5, top_p, seeds)(None, scores)
    kept = TopPLogitsWarper(top_p)(torch.empty(0), scores / 0.5).isfinite()
    whole = make_sampler(0.5, 1.0, seeds)(None, scores)
    assert torch.equal(found, whole.masked_fill(~kept, -torch.inf))
    assert kept.any(-1).all()
    assert not kept.all()


def test_a_share_of_almost_nothing_is_greedy(model: TransformersModel) -> None:
    narrow = SamplingConfig(max_new_tokens=12, temperature=1.0, top_p=0.001)
    (greedy,), (found,) = ask(model, PROMPTS[0]), ask(model, PROMPTS[0], sampling=narrow)
    assert found.token_ids == greedy.token_ids


def test_an_answer_ends_at_a_stop_string(model: TransformersModel) -> None:
    (whole,) = ask(model, "def f():\n")
    stop = model.tokenizer.decode(whole.token_ids[3:5])
    (cut,) = ask(model, "def f():\n", stop=(stop, ""))
    assert cut.finish_reason == "stop"
    assert cut.output_tokens <= 5
    assert stop in model.tokenizer.decode(cut.token_ids)


def test_chats_use_the_template_and_continue_an_open_answer(model: TransformersModel) -> None:
    chat = (ChatMessage("system", "Be brief."), ChatMessage("user", "Write f."))
    text = model.tokenizer.decode(encode_prompt(model.tokenizer, chat))
    assert text.endswith("Write f.<|im_end|>\n<|im_start|>assistant\n")
    opened = (*chat, ChatMessage("assistant", "```python\n"))
    text = model.tokenizer.decode(encode_prompt(model.tokenizer, opened))
    assert text.endswith("<|im_start|>assistant\n```python\n")


def test_a_gap_is_written_with_the_tokenizer_s_own_tokens(model: TransformersModel) -> None:
    text = model.tokenizer.decode(encode_prompt(model.tokenizer, Gap("a(", ")")))
    assert text == "<|fim_prefix|>a(<|fim_suffix|>)<|fim_middle|>"


def test_a_tokenizer_without_such_tokens_cannot_see_a_suffix() -> None:
    class Plain:
        def get_vocab(self) -> dict[str, int]:
            return {"<|fim_prefix|>": 0, "<|fim_middle|>": 1}

    with pytest.raises(UserError, match="no fill-in-the-middle tokens that we know"):
        encode_prompt(Plain(), Gap("a(", ")"))


@pytest.mark.parametrize(
    ("family", "tokens", "wanted"),
    [
        (
            "starcoder",
            "<fim_prefix> <fim_suffix> <fim_middle>",
            "<fim_prefix>a{<fim_suffix>}<fim_middle>",
        ),
        ("codellama", "▁<PRE> ▁<SUF> ▁<MID>", "▁<PRE> a{▁<SUF>}▁<MID>"),
        (
            "deepseek",
            "<\uff5cfim▁begin\uff5c> <\uff5cfim▁hole\uff5c> <\uff5cfim▁end\uff5c>",
            "<\uff5cfim▁begin\uff5c>a{<\uff5cfim▁hole\uff5c>}<\uff5cfim▁end\uff5c>",
        ),
        (
            "seed-coder",
            "<[fim-prefix]> <[fim-suffix]> <[fim-middle]>",
            "<[fim-suffix]>}<[fim-prefix]>a{<[fim-middle]>",
        ),
    ],
)
def test_each_family_s_gap_is_written_as_it_was_trained(
    family: str, tokens: str, wanted: str
) -> None:
    assert find_family(tokens.split()) == family
    assert write_gap(family, Gap("a{", "}")) == wanted


def test_a_prompt_without_room_is_refused_and_the_others_are_answered(
    model: TransformersModel,
) -> None:
    long, short = ask(model, "x" * 90, "x")
    assert long.finish_reason == "refused"
    assert long.error == "a prompt of 90 tokens; this model leaves room for 1 to 84"
    assert short.output_tokens > 0


def test_decoding_keeps_what_stands_between_prompt_and_answer() -> None:
    class DropsLeadingSpace:
        def decode(self, ids: list[int], **settings: object) -> str:
            return bytes(ids).decode().removeprefix(" ")

    assert decode_answer(DropsLeadingSpace(), list(b"a:"), list(b" b")) == " b"


def test_revision_is_of_the_contents(folder: Path, model: TransformersModel) -> None:
    again = load(f"{folder},device=cpu")
    assert again.revision == model.revision
    assert len(model.revision) == 64
    assert model.precision == "float32"
    assert "transformers/" in model.engine


def test_bad_input_is_one_line_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="trust_remote_code=1; allowed: no, yes"):
        load("x,trust_remote_code=1")
    with pytest.raises(UserError, match="unknown option 'dtyp'; did you mean 'dtype'"):
        load("x,dtyp=auto")
    with pytest.raises(UserError, match="dtype=int8; "):
        load("x,dtype=int8")
    base = load(f"{write_model(tmp_path / 'base', has_template=False)},device=cpu")
    with pytest.raises(UserError, match="no chat template, so it is a base model"):
        encode_prompt(base.tokenizer, (ChatMessage("user", "f"),))
    base.tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(UserError, match=r"refuses the turns user user: roles must alternate; "):
        encode_prompt(base.tokenizer, (ChatMessage("user", "f"),) * 2)


def test_code_of_a_checkpoint_runs_only_if_that_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "c"))
    folder = write_model(tmp_path / "own")
    (folder / "modeling_own.py").write_text(
        "from transformers import LlamaConfig, LlamaForCausalLM\n"
        "class OwnConfig(LlamaConfig):\n    model_type = 'own'\n"
        "class OwnModel(LlamaForCausalLM):\n    config_class = OwnConfig\n"
    )
    config = json.loads((folder / "config.json").read_text())
    classes = {"AutoConfig": "OwnConfig", "AutoModelForCausalLM": "OwnModel"}
    config |= {
        "model_type": "own",
        "auto_map": {auto: f"modeling_own.{name}" for auto, name in classes.items()},
    }
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="trust_remote_code"):
        load(f"{folder},device=cpu")
    trusted = load(f"{folder},device=cpu,trust_remote_code=yes")
    assert type(trusted.model).__name__ == "OwnModel"
    assert trusted.implementations["trust_remote_code"] == "yes"
    assert ask(trusted, "ab")[0].output_tokens > 0


def test_weights_that_would_be_unpickled_are_refused(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "pickled")
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(OSError, match="safetensors"):
        load(str(folder))
