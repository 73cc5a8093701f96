"""Aider's own messages in the edit format `whole`, as its benchmark sends them.

Place in the flow: the preset `leaderboard` of `aider_edit.py` and `aider_polyglot.py`, and `seed`;
`aider.py` has the edit formats and everything else. The texts are those of Aider-AI/aider at commit
5dc9490b (`aider/coders/wholefile_prompts.py`, `base_prompts.py`; Apache License 2.0, copyright of
its authors), for a model that aider has no settings for: system prompt, an example, the files, the
request, and the rules once more. Other releases differ in a few words.

What it does not do: aider's questions back after a malformed reply, and its summary of long chats.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from sdb_harness.benchmarks import ChatMessage, Prompt, Try
from sdb_harness.benchmarks.aider import EditProtocol, name_files, read_files
from sdb_harness.records import Problem

RULES = """\
To suggest changes to a file you MUST return the entire content of the updated file.
You MUST use this *file listing* format:

path/to/filename.js
```
// entire file content ...
// ... goes in between
```

Every *file listing* MUST use this format:
- First line: the filename with any originally provided path; no extra markup, punctuation, \
comments, etc. **JUST** the filename with path.
- Second line: opening ```
- ... entire content of the file ...
- Final line: closing ```

To suggest changes to a file you MUST return a *file listing* that contains the entire content of \
the file.
*NEVER* skip, omit or elide content from a *file listing* using "..." or by adding comments like \
"... rest of code..."!
Create a new file you MUST return a *file listing* which includes an appropriate filename, \
including any appropriate path.


"""
"""`system_reminder`: stands below the system prompt and below the last request."""
SYSTEM = """\
Act as an expert software developer.
Take requests for changes to the supplied code.
If the request is ambiguous, ask questions.

Once you understand the request you MUST:
1. Determine if any code changes are needed.
2. Explain any needed changes.
3. If changes are needed, output a copy of each file that needs changes.
"""
EXAMPLE = """\
Ok, I will:

1. Switch the greeting text from "Hello" to "Hey".

show_greeting.py
```
import sys

def greeting(name):
    print(f"Hey {name}")

if __name__ == '__main__':
    greeting(sys.argv[1])
```
"""
FILES = """\
I have *added these files to the chat* so you can go ahead and edit them.

*Trust this message as the true contents of these files!*
Any other messages in the chat may contain outdated versions of the files' contents.
"""
OPENING = (
    ChatMessage("system", f"{SYSTEM}\n{RULES}"),
    ChatMessage("user", "Change the greeting to be more casual"),
    ChatMessage("assistant", EXAMPLE),
    ChatMessage(
        "user",
        "I switched to a new code base. Please don't consider the above files or try to edit them "
        "any longer.",
    ),
    ChatMessage("assistant", "Ok."),
)


@dataclass(frozen=True, slots=True)
class LeaderboardProtocol(EditProtocol):
    """The format `whole` in aider's words. Implements `MultiTurnProtocol`."""

    @property
    def source(self) -> str:
        """Whose protocol it is, and what is known to differ."""
        return self.reported_by + (
            f"aider's benchmark in edit format whole, {self.num_tries} tries, temperature 0, in "
            "its own words of commit 5dc9490b; no questions back after a malformed reply"
        )

    def build_prompt(self, problem: Problem) -> Prompt:
        """Rules, example, files and task."""
        return self.ask_again(problem, ())

    def ask_again(self, problem: Problem, tries: Sequence[Try]) -> Prompt:
        """What was edited before stands in front of the files, an open request behind them."""
        files = starter = read_files(problem, problem.starter)
        failure = self.failure.format(files=name_files(starter))
        done: list[ChatMessage] = []
        current = [ChatMessage("user", problem.statement)]
        for number, one in enumerate(tries, start=1):
            current.append(ChatMessage("assistant", one.text))
            program, _ = self.extract_tries(problem, [made.text for made in tries[:number]])
            before, files = files, read_files(problem, program)
            if files != before:
                current += [
                    ChatMessage("user", "I updated the files."),
                    ChatMessage("assistant", "Ok."),
                ]
                done, current = done + current, []
            current.append(ChatMessage("user", f"{one.observation}{failure}"))
        last = ChatMessage("user", f"{current[-1].content}\n\n{RULES}")
        return (*OPENING, *done, *present_files(files), *current[:-1], last)


def present_files(files: Mapping[str, str]) -> tuple[ChatMessage, ChatMessage]:
    """The files as they are now, and the promise to change no others."""
    shown = "".join(
        f"\n{PurePosixPath(path).name}\n```\n{text}```\n" for path, text in files.items()
    )
    return (
        ChatMessage("user", FILES + shown),
        ChatMessage("assistant", "Ok, any changes I propose will be to those files."),
    )
