"""The generators without a model: reference answers and replayed sample files."""

import gzip
import json
from pathlib import Path

import pytest

from sdb_harness.benchmarks import ChatMessage, Prompt
from sdb_harness.errors import UserError
from sdb_harness.generators import Generator, Prompted, load_generator
from sdb_harness.generators.replay import ReplayGenerator, load
from sdb_harness.records import Problem, SamplingConfig
from sdb_sandboxes.types import Case, FunctionCheck

PROBLEM = Problem(
    problem_id="HumanEval/0",
    prompt='\nimport math\n\ndef f(x):\n    """Doubles."""\n',
    reference="    return 2 * x\n",
    entry_point="f",
    check=FunctionCheck("f", (Case((1,), 2),)),
)
SAMPLING = SamplingConfig()


def make_prompted(prompt: Prompt, sample_index: int = 0, problem: Problem = PROBLEM) -> Prompted:
    return Prompted(problem, prompt, sample_index, seed=0)


def generate_text(generator: Generator, prompted: Prompted) -> str:
    ((position, completion),) = generator.generate([prompted], SAMPLING)
    assert position == 0
    assert completion.finish_reason == "stop"
    assert completion.output_tokens == 0
    assert completion.token_ids == ()
    assert completion.tok_s_user is None
    assert completion.tokens_per_forward is None
    return completion.text


class TestCanonical:
    @pytest.mark.parametrize(
        "prompt",
        [PROBLEM.prompt, PROBLEM.prompt.strip(), PROBLEM.prompt.strip() + "\n", PROBLEM.prompt[:9]],
    )
    def test_continues_a_source_prompt_into_the_reference_program(self, prompt: str) -> None:
        generator = load_generator("canonical")
        program = prompt + generate_text(generator, make_prompted(prompt))
        assert (PROBLEM.prompt + PROBLEM.reference).endswith(program)
        assert program.endswith(PROBLEM.reference)

    def test_answers_chats_with_a_code_block_or_its_rest(self) -> None:
        generator = load_generator("canonical")
        program = PROBLEM.prompt + PROBLEM.reference
        user = ChatMessage("user", "Write f.")
        opened = ChatMessage("assistant", "Here:\n```python\n")
        repeated = ChatMessage("assistant", f"Here:\n```python\n{PROBLEM.prompt}\n")
        expected: dict[Prompt, str] = {
            (user,): f"```python\n{program}\n```\n",
            (user, opened): f"{program}\n```\n",
            (user, repeated): f"{PROBLEM.reference}\n```\n",
        }
        for prompt, text in expected.items():
            assert generate_text(generator, make_prompted(prompt)) == text

    def test_refuses_a_prompt_it_cannot_continue(self) -> None:
        generator = load_generator("canonical")
        with pytest.raises(ValueError, match="HumanEval/0: the reference program does not contain"):
            list(generator.generate([make_prompted("def g():\n")], SAMPLING))

    def test_times_are_real_and_the_rest_is_deterministic(self) -> None:
        generator = load_generator("canonical")
        batch = [make_prompted(PROBLEM.prompt, index) for index in range(3)]
        runs = [list(generator.generate(batch, SAMPLING)) for _ in range(2)]
        assert [position for position, _ in runs[0]] == [0, 1, 2]
        assert all(0 < completion.e2e_s < 1 for _, completion in runs[0])
        texts = [[completion.text for _, completion in run] for run in runs]
        assert texts[0] == texts[1]
        assert generator.revision == load_generator("canonical").revision
        generator.warm_up(batch, SAMPLING)
        generator.close()
        generator.close()


def write_samples(path: Path, *samples: tuple[str, str]) -> Path:
    lines = [json.dumps({"task_id": task_id, "completion": text}) for task_id, text in samples]
    path.write_text("\n".join(lines) + "\n\n", encoding="utf-8")
    return path


class TestReplay:
    def test_gives_a_tasks_samples_in_file_order(self, tmp_path: Path) -> None:
        path = write_samples(
            tmp_path / "s.jsonl",
            ("HumanEval/0", "    return 'a'\u2028é\n"),
            ("HumanEval/1", "    pass\n"),
            ("HumanEval/0", "    return 'b'\n"),
        )
        generator = load_generator(f"replay:{path}")
        first, second = (make_prompted(PROBLEM.prompt, index) for index in range(2))
        assert generate_text(generator, first) == "    return 'a'\u2028é\n"
        assert generate_text(generator, second) == "    return 'b'\n"
        completions = [
            completion for _, completion in generator.generate([second, first], SAMPLING)
        ]
        assert [completion.text[12] for completion in completions] == ["b", "a"]
        assert all(completion.e2e_s == 0 for completion in completions)
        generator.close()

    def test_gzip_is_the_same_samples(self, tmp_path: Path) -> None:
        plain = write_samples(tmp_path / "s.jsonl", ("HumanEval/0", "    pass\n"))
        packed = tmp_path / "s.jsonl.gz"
        packed.write_bytes(gzip.compress(plain.read_bytes()))
        assert load(str(plain)).revision == load(str(packed)).revision
        other = write_samples(tmp_path / "o.jsonl", ("HumanEval/0", "    pass \n"))
        assert load(str(plain)).revision != load(str(other)).revision

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("{oops", "not JSON"),
            ("[1]", "not an object"),
            ('{"completion": "x"}', "key 'task_id' is missing"),
            ('{"task_id": "HumanEval/1", "answer": "x"}', "key 'completion' is missing"),
            ('{"task_id": "HumanEval/1", "completion": null}', "key 'completion' is not a string"),
            ('{"task_id": "HumanEval/1", "completion": "\\ud83d"}', "the completion holds half"),
        ],
    )
    def test_a_bad_line_is_named_with_file_and_number(
        self, tmp_path: Path, line: str, message: str
    ) -> None:
        path = write_samples(tmp_path / "s.jsonl", ("HumanEval/0", "x"))
        path.write_text(path.read_text() + line + "\n")
        with pytest.raises(UserError) as caught:
            load(str(path))
        assert str(caught.value).startswith(f"{path}:3: {message}")
        assert "\n" not in str(caught.value)

    def test_not_utf8_is_named_with_its_line(self, tmp_path: Path) -> None:
        path = tmp_path / "s.jsonl"
        path.write_bytes(b'{"task_id": "HumanEval/0", "completion": "\xff"}\n')
        with pytest.raises(UserError, match=r"s\.jsonl:1: not JSON"):
            load(str(path))

    def test_missing_empty_and_damaged_files(self, tmp_path: Path) -> None:
        (tmp_path / "empty.jsonl").write_text("\n\n")
        (tmp_path / "cut.gz").write_bytes(gzip.compress(b"x" * 1000)[:20])
        for name, message in (
            ("missing.jsonl", "cannot read the sample file"),
            ("empty.jsonl", "holds no samples"),
            ("cut.gz", "cannot read the sample file"),
        ):
            with pytest.raises(UserError, match=message):
                load(str(tmp_path / name))

    def test_a_folder_of_evalplus_is_read(self, tmp_path: Path) -> None:
        for name, text in (("0/10", "c"), ("0/9", "b"), ("1/0", "é"), ("1/notes", "no")):
            path = tmp_path / f"HumanEval_{name}.py"
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        generator: ReplayGenerator = load(str(tmp_path))
        assert generator.check_coverage(["HumanEval/1"], 1) == 1
        texts = [generate_text(generator, make_prompted(PROBLEM.prompt, n)) for n in range(2)]
        assert texts == ["b", "c"]
        (tmp_path / "HumanEval_1" / "0.py").write_bytes(b"\xff")
        with pytest.raises(UserError, match="cannot read the samples in"):
            load(str(tmp_path))
        (tmp_path / "empty").mkdir()
        with pytest.raises(UserError, match=r"holds no samples; a folder's are called HumanEval_0"):
            load(str(tmp_path / "empty"))

    def test_coverage_counts_unknown_ids_and_names_short_problems(self, tmp_path: Path) -> None:
        path = write_samples(tmp_path / "s.jsonl", ("HumanEval/0", "x"), ("other/1", "y"))
        generator: ReplayGenerator = load(str(path))
        assert generator.check_coverage(["HumanEval/0"], 1) == 1
        assert generator.check_coverage(["HumanEval/0", "other/1"], 1) == 0
        with pytest.raises(UserError, match=r"for 4 of 4 problems: HumanEval/0 \(1\), a \(0\), b"):
            generator.check_coverage(["HumanEval/0", "a", "b", "c"], 2)
