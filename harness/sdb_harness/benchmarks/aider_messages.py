"""Aider's own messages in edit formats `whole`, `diff` and `udiff`, as its benchmark sends them.

Place in the flow: the presets `leaderboard`, `leaderboard-diff` and `leaderboard-udiff` of
`aider_edit.py` and `aider_polyglot.py`, and `seed`; `aider.py` has everything else. The texts are
quoted from release 0.70.0 of Aider-AI/aider (`wholefile_prompts.py`, `editblock_prompts.py`,
`udiff_prompts.py` and `base_prompts.py` in `aider/coders`, the same since 2024-12; Apache License
2.0, copyright of its authors). It stands between both leaderboards: the last of the first one and
the first of the second were measured with these words; later releases differ in a few. They are
those for a model that aider has no settings for: system prompt, examples, the files, the request,
and the rules once more.

As in aider, a reply stands twice in the chat where the linter found something, so two turns of the
assistant follow each other.

What it does not do: aider's summary of long chats, new files, other fences than three backquotes,
which are needed only after an edit that puts some into a file, and leave out a reply that its
length cut off, which aider does not apply.
Files that a reply mentions are never added to a chat: without git, aider knows no others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from sdb_harness.benchmarks import ChatMessage, Prompt, Try
from sdb_harness.benchmarks.aider import EditProtocol, name_files, read_files
from sdb_harness.benchmarks.aider_questions import MAX_QUESTIONS
from sdb_harness.records import Problem

PLATFORM = """\
- Platform: Linux-6.8.0-x86_64-with-glibc2.35
- Shell: SHELL=/bin/bash
- Language: en_US
- Current date: 2024-12-26
"""
"""Choice: what `diff` is told of the machine. aider writes its own and the day's date there; fixed
ones keep prompts equal from run to run."""
SYSTEM = {
    "whole": """\
Act as an expert software developer.
Take requests for changes to the supplied code.
If the request is ambiguous, ask questions.

Always reply to the user in the same language they are using.


Once you understand the request you MUST:
1. Determine if any code changes are needed.
2. Explain any needed changes.
3. If changes are needed, output a copy of each file that needs changes.
""",
    "diff": """\
Act as an expert software developer.
Always use best practices when coding.
Respect and use existing conventions, libraries, etc that are already present in the code base.

Take requests for changes to the supplied code.
If the request is ambiguous, ask questions.

Always reply to the user in the same language they are using.

Once you understand the request you MUST:

1. Decide if you need to propose *SEARCH/REPLACE* edits to any files that haven't been added to \
the chat. You can create new files without asking!

But if you need to propose edits to existing files not already added to the chat, you *MUST* \
tell the user their full path names and ask them to *add the files to the chat*.
End your reply and wait for their approval.
You can keep asking if you then decide you need to edit more files.

2. Think step-by-step and explain the needed changes in a few short sentences.

3. Describe each change with a *SEARCH/REPLACE block* per the examples below.

All changes to files must use this *SEARCH/REPLACE block* format.
ONLY EVER RETURN CODE IN A *SEARCH/REPLACE BLOCK*!

Keep in mind these details about the user's platform and environment:
{platform}

""",
    "udiff": """\
Act as an expert software developer.

Always use best practices when coding.
Respect and use existing conventions, libraries, etc that are already present in the code base.

Take requests for changes to the supplied code.
If the request is ambiguous, ask questions.

Always reply to the user in the same language they are using.

For each file that needs to be changed, write out the changes similar to a unified diff like \
`diff -U0` would produce.
""",
}
"""Edit format -> `main_system`."""
RULES = {
    "whole": """\
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

To suggest changes to a file you MUST return a *file listing* that contains the entire content \
of the file.
*NEVER* skip, omit or elide content from a *file listing* using "..." or by adding comments like \
"... rest of code..."!
Create a new file you MUST return a *file listing* which includes an appropriate filename, \
including any appropriate path.


""",
    "diff": """\
# *SEARCH/REPLACE block* Rules:

Every *SEARCH/REPLACE block* must use this format:
1. The *FULL* file path alone on a line, verbatim. No bold asterisks, no quotes around it, no \
escaping of characters, etc.
2. The opening fence and code language, eg: ```python
3. The start of search block: <<<<<<< SEARCH
4. A contiguous chunk of lines to search for in the existing source code
5. The dividing line: =======
6. The lines to replace into the source code
7. The end of the replace block: >>>>>>> REPLACE
8. The closing fence: ```

Use the *FULL* file path, as shown to you by the user.

Every *SEARCH* section must *EXACTLY MATCH* the existing file content, character for character, \
including all comments, docstrings, etc.
If the file contains code or other data wrapped/escaped in json/xml/quotes or other containers, \
you need to propose edits to the literal contents of the file, including the container markup.

*SEARCH/REPLACE* blocks will *only* replace the first match occurrence.
Including multiple unique *SEARCH/REPLACE* blocks if needed.
Include enough lines in each SEARCH section to uniquely match each set of lines that need to \
change.

Keep *SEARCH/REPLACE* blocks concise.
Break large *SEARCH/REPLACE* blocks into a series of smaller blocks that each change a small \
portion of the file.
Include just the changing lines, and a few surrounding lines if needed for uniqueness.
Do not include long runs of unchanging lines in *SEARCH/REPLACE* blocks.

Only create *SEARCH/REPLACE* blocks for files that the user has added to the chat!

To move code within a file, use 2 *SEARCH/REPLACE* blocks: 1 to delete it from its current \
location, 1 to insert it in the new location.

Pay attention to which filenames the user wants you to edit, especially if they are asking you \
to create a new file.

If you want to put code in a new file, use a *SEARCH/REPLACE block* with:
- A new file path, including dir name if needed
- An empty `SEARCH` section
- The new file's contents in the `REPLACE` section

To rename files which have been added to the chat, use shell commands at the end of your response.


ONLY EVER RETURN CODE IN A *SEARCH/REPLACE BLOCK*!

""",
    "udiff": """\
# File editing rules:

Return edits similar to unified diffs that `diff -U0` would produce.

Make sure you include the first 2 lines with the file paths.
Don't include timestamps with the file paths.

Start each hunk of changes with a `@@ ... @@` line.
Don't include line numbers like `diff -U0` does.
The user's patch tool doesn't need them.

The user's patch tool needs CORRECT patches that apply cleanly against the current contents of \
the file!
Think carefully and make sure you include and mark all lines that need to be removed or changed \
as `-` lines.
Make sure you mark all new or modified lines with `+`.
Don't leave out any lines or the diff patch won't apply correctly.

Indentation matters in the diffs!

Start a new hunk for each section of the file that needs changes.

Only output hunks that specify changes with `+` or `-` lines.
Skip any hunks that are entirely unchanging ` ` lines.

Output hunks in whatever order makes the most sense.
Hunks don't need to be in any particular order.

When editing a function, method, loop, etc use a hunk to replace the *entire* code block.
Delete the entire existing version with `-` lines and then add a new, updated version with `+` \
lines.
This will help you generate correct code and correct diffs.

To move code within a file, use 2 hunks: 1 to delete it from its current location, 1 to insert \
it in the new location.

To make a new file, show a diff from `--- /dev/null` to `+++ path/to/new/file.ext`.


""",
}
"""Edit format -> `system_reminder`: below the system prompt and below the last request."""
EXAMPLES: dict[str, tuple[tuple[str, str], ...]] = {
    "whole": (
        (
            "Change the greeting to be more casual",
            """\
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
""",
        ),
    ),
    "diff": (
        (
            "Change get_factorial() to use math.factorial",
            """\
To make this change we need to modify `mathweb/flask/app.py` to:

1. Import the math package.
2. Remove the existing factorial() function.
3. Update get_factorial() to call math.factorial instead.

Here are the *SEARCH/REPLACE* blocks:

mathweb/flask/app.py
```python
<<<<<<< SEARCH
from flask import Flask
=======
import math
from flask import Flask
>>>>>>> REPLACE
```

mathweb/flask/app.py
```python
<<<<<<< SEARCH
def factorial(n):
    "compute factorial"

    if n == 0:
        return 1
    else:
        return n * factorial(n-1)

=======
>>>>>>> REPLACE
```

mathweb/flask/app.py
```python
<<<<<<< SEARCH
    return str(factorial(n))
=======
    return str(math.factorial(n))
>>>>>>> REPLACE
```
""",
        ),
        (
            "Refactor hello() into its own file.",
            """\
To make this change we need to modify `main.py` and make a new file `hello.py`:

1. Make a new hello.py file with hello() in it.
2. Remove hello() from main.py and replace it with an import.

Here are the *SEARCH/REPLACE* blocks:

hello.py
```python
<<<<<<< SEARCH
=======
def hello():
    "print a greeting"

    print("hello")
>>>>>>> REPLACE
```

main.py
```python
<<<<<<< SEARCH
def hello():
    "print a greeting"

    print("hello")
=======
from hello import hello
>>>>>>> REPLACE
```
""",
        ),
    ),
    "udiff": (
        (
            "Replace is_prime with a call to sympy.",
            """\
Ok, I will:

1. Add an imports of sympy.
2. Remove the is_prime() function.
3. Replace the existing call to is_prime() with a call to sympy.isprime().

Here are the diffs for those changes:

```diff
--- mathweb/flask/app.py
+++ mathweb/flask/app.py
@@ ... @@
-class MathWeb:
+import sympy
+
+class MathWeb:
@@ ... @@
-def is_prime(x):
-    if x < 2:
-        return False
-    for i in range(2, int(math.sqrt(x)) + 1):
-        if x % i == 0:
-            return False
-    return True
@@ ... @@
-@app.route('/prime/<int:n>')
-def nth_prime(n):
-    count = 0
-    num = 1
-    while count < n:
-        num += 1
-        if is_prime(num):
-            count += 1
-    return str(num)
+@app.route('/prime/<int:n>')
+def nth_prime(n):
+    count = 0
+    num = 1
+    while count < n:
+        num += 1
+        if sympy.isprime(num):
+            count += 1
+    return str(num)
```
""",
        ),
    ),
}
"""Edit format -> requests with their replies."""
FILES = """\
I have *added these files to the chat* so you can go ahead and edit them.

*Trust this message as the true contents of these files!*
Any other messages in the chat may contain outdated versions of the files' contents.
"""
SWITCH = (
    ChatMessage(
        "user",
        "I switched to a new code base. Please don't consider the above files or try to edit them "
        "any longer.",
    ),
    ChatMessage("assistant", "Ok."),
)


def open_chat(edit_format: str) -> tuple[ChatMessage, ...]:
    """Rules and examples: what stands in front of every request."""
    system = SYSTEM[edit_format].replace("{platform}", PLATFORM)
    examples = [
        ChatMessage(role, text)
        for pair in EXAMPLES[edit_format]
        for role, text in zip(("user", "assistant"), pair, strict=True)
    ]
    return ChatMessage("system", f"{system}\n{RULES[edit_format]}"), *examples, *SWITCH


@dataclass(frozen=True, slots=True)
class LeaderboardProtocol(EditProtocol):
    """An edit format in aider's words. Implements `MultiTurnProtocol`."""

    num_questions: int = MAX_QUESTIONS

    @property
    def source(self) -> str:
        """Whose protocol it is, and what is known to differ."""
        shown = "unittest's output is shown of Python"
        if self.shows_pytest:
            shown = "pytest's output is shown of Python where the sandbox has it, else unittest's"
        return self.reported_by + (
            f"aider's benchmark in edit format {self.edit_format}, {self.num_tries} tries, "
            "temperature 0, in its own words of release 0.70.0, with its questions back; other "
            f"languages than Python are not linted, new files are not kept, and {shown}"
        )

    def build_prompt(self, problem: Problem) -> Prompt:
        """Rules, example, files and task."""
        return self.ask_again(problem, ())

    def ask_again(self, problem: Problem, tries: Sequence[Try]) -> Prompt:
        """What was edited before stands in front of the files, an open request behind them."""
        files = read_files(problem, problem.starter)
        failure = self.failure.format(files=name_files(files))
        done: list[ChatMessage] = []
        current = [ChatMessage("user", problem.statement)]
        steps = self.follow(problem, [one.text for one in tries])
        for one, step in zip(tries, steps, strict=True):
            files, reply = step.files, ChatMessage("assistant", one.text)
            current.append(reply)
            if step.edited.paths:
                done += [
                    *current,
                    ChatMessage("user", "I updated the files."),
                    ChatMessage("assistant", "Ok."),
                ]
                current = [reply] if step.finding else []
            asked = one.observation if step.is_asked else f"{one.observation}{failure}"
            current.append(ChatMessage("user", asked))
        last = ChatMessage("user", f"{current[-1].content}\n\n{RULES[self.edit_format]}")
        return (*open_chat(self.edit_format), *done, *present_files(files), *current[:-1], last)


def present_files(files: Mapping[str, str]) -> tuple[ChatMessage, ChatMessage]:
    """The files as they are now, and the promise to change no others."""
    shown = "".join(
        f"\n{PurePosixPath(path).name}\n```\n{text}```\n" for path, text in files.items()
    )
    return (
        ChatMessage("user", FILES + shown),
        ChatMessage("assistant", "Ok, any changes I propose will be to those files."),
    )


def paraphrase(edit_format: str, failure: str, max_lines: int | None, wording: int) -> EditProtocol:
    """A preset in this project's words that asks back in aider's."""
    return EditProtocol(
        edit_format, failure, max_lines, wording=wording, num_questions=MAX_QUESTIONS
    )


def make_leaderboard(failure: str, max_lines: int | None) -> dict[str, EditProtocol]:
    """The three edit formats in aider's words, and as `/2` and `/3` in this project's.

    `leaderboard` is `whole`, as in the Seed reports.
    """
    presets: dict[str, EditProtocol] = {}
    for edit_format in RULES:
        name = "leaderboard" if edit_format == "whole" else f"leaderboard-{edit_format}"
        presets[name] = LeaderboardProtocol(edit_format, failure, max_lines)
        for wording in (2, 3):
            presets[f"{name}/{wording}"] = paraphrase(edit_format, failure, max_lines, wording)
    return presets
