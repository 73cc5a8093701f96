"""The primitive operations of minipy: what can be asked in one clause and done in one line.

Place in the flow: `generate` chains operations into problems. Each one maps a value of one kind to
a value of another, is total on its kind, never mutates its input and grows it at most by a small
factor, so that any chain is safe. Conventions: a filter keeps the order, `or 0` and `or empty` say
what an empty value gives, the first of equal candidates wins (keys are tried in sorted order).

The table below is text, two lines an operation: `name: source -> target: expression`, then its
wordings. In an expression `{x}` is the current variable, `{v}` the comprehension variable, `{k}` a
constant from 2 to 9; doubled braces are literal. A wording is a clause in the imperative that means
exactly one operation.
"""

from dataclasses import dataclass
from functools import cache
from typing import Literal, cast, get_args

Kind = Literal["int", "ints", "str", "strs", "dict"]
"""A number, a list of numbers, a string, a list of strings, a dict from strings to numbers."""

KINDS: tuple[Kind, ...] = get_args(Kind)

CONSTANTS = range(2, 10)


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """One step of a program. Compared by identity: the table holds each once."""

    name: str
    source: Kind
    target: Kind
    expression: str
    wordings: tuple[str, ...]
    has_constant: bool
    """Whether `{k}` appears in the expression, and then also in every wording."""


TABLE = """\
keep_even: ints -> ints: [{v} for {v} in {x} if {v} % 2 == 0]
    keep the even numbers | drop the odd numbers | select even numbers
keep_odd: ints -> ints: [{v} for {v} in {x} if {v} % 2 == 1]
    keep the odd numbers | drop the even numbers | select odd numbers
keep_positive: ints -> ints: [{v} for {v} in {x} if {v} > 0]
    keep the positive numbers | select positive numbers | drop numbers below 1
keep_negative: ints -> ints: [{v} for {v} in {x} if {v} < 0]
    keep the negative numbers | select negative numbers | drop numbers above -1
keep_above: ints -> ints: [{v} for {v} in {x} if {v} > {k}]
    keep numbers above {k} | select numbers greater than {k} | drop numbers up to {k}
keep_below: ints -> ints: [{v} for {v} in {x} if {v} < {k}]
    keep numbers below {k} | select numbers less than {k} | drop numbers from {k} upwards
keep_multiples: ints -> ints: [{v} for {v} in {x} if {v} % {k} == 0]
    keep the multiples of {k} | select numbers divisible by {k} | drop numbers not divisible by {k}
drop_multiples: ints -> ints: [{v} for {v} in {x} if {v} % {k} != 0]
    drop the multiples of {k} | remove numbers divisible by {k} | keep numbers not divisible by {k}
remove_value: ints -> ints: [{v} for {v} in {x} if {v} != {k}]
    remove every {k} | drop numbers equal to {k} | keep numbers other than {k}
keep_one_digit: ints -> ints: [{v} for {v} in {x} if abs({v}) < 10]
    keep one-digit numbers | select numbers with one digit | drop numbers of many digits
add_each: ints -> ints: [{v} + {k} for {v} in {x}]
    add {k} to each number | increase each number by {k} | add {k} to all numbers
subtract_each: ints -> ints: [{v} - {k} for {v} in {x}]
    subtract {k} from each number | decrease each number by {k} | lower all numbers by {k}
multiply_each: ints -> ints: [{v} * {k} for {v} in {x}]
    multiply each number by {k} | scale each number by {k} | take {k} times each number
divide_each: ints -> ints: [{v} // {k} for {v} in {x}]
    floor divide each number by {k} | take each quotient by {k} | divide all by {k} rounding down
modulo_each: ints -> ints: [{v} % {k} for {v} in {x}]
    take each number modulo {k} | take each remainder by {k} | reduce all modulo {k}
square_each: ints -> ints: [{v} * {v} for {v} in {x}]
    square each number | replace numbers by squares | multiply each number by itself
negate_each: ints -> ints: [-{v} for {v} in {x}]
    negate each number | flip the sign of each number | change all signs
absolute_each: ints -> ints: [abs({v}) for {v} in {x}]
    take absolute values | make each number absolute | drop the sign of each number
floor_at: ints -> ints: [max({v}, {k}) for {v} in {x}]
    raise lower numbers to {k} | replace numbers below {k} by {k} | make each number at least {k}
cap_at: ints -> ints: [min({v}, {k}) for {v} in {x}]
    cap each number at {k} | replace numbers above {k} by {k} | make each number at most {k}
times_index: ints -> ints: [{v} * {x}[{v}] for {v} in range(len({x}))]
    multiply each number by its index | scale numbers by position | weight numbers by index
running_sums: ints -> ints: [sum({x}[:{v} + 1]) for {v} in range(len({x}))]
    take running sums | replace numbers by running totals | accumulate the numbers
sort: ints -> ints: sorted({x})
    sort the numbers | sort in ascending order | order from small to large
sort_down: ints -> ints: sorted({x}, reverse=True)
    sort the numbers descending | sort in descending order | order from large to small
sort_by_absolute: ints -> ints: sorted({x}, key=abs)
    sort by absolute value | order by size without sign | sort by distance from 0
reverse: ints -> ints: {x}[::-1]
    reverse the numbers | flip the list of numbers | list the numbers backwards
unique: ints -> ints: list(dict.fromkeys({x}))
    remove duplicate numbers | keep first occurrences | drop repeated numbers
first_k: ints -> ints: {x}[:{k}]
    keep the first {k} numbers | take {k} from the start | cut after {k} numbers
last_k: ints -> ints: {x}[-{k}:]
    keep the last {k} numbers | take {k} from the end | keep only the final {k}
skip_k: ints -> ints: {x}[{k}:]
    drop the first {k} numbers | skip {k} at the start | leave out the leading {k}
trim_k: ints -> ints: {x}[:-{k}]
    drop the last {k} numbers | skip {k} at the end | leave out the trailing {k}
step_k: ints -> ints: {x}[::{k}]
    take the list in steps of {k} | keep one of every {k} numbers | stride by {k}
rotate_k: ints -> ints: {x}[{k}:] + {x}[:{k}]
    move the first {k} numbers to the end | put the leading {k} last | rotate {k} to the back
append_k: ints -> ints: {x} + [{k}]
    append {k} | add {k} at the end | put {k} after the numbers
prepend_k: ints -> ints: [{k}] + {x}
    prepend {k} | add {k} at the start | put {k} before the numbers
repeat_list: ints -> ints: {x} * 2
    repeat the list twice | append the list to itself | list all numbers twice over
sum: ints -> int: sum({x})
    take their sum | add them up | find the total
maximum: ints -> int: max({x}, default=0)
    take the maximum or 0 | find the largest or 0 | pick the biggest or 0
minimum: ints -> int: min({x}, default=0)
    take the minimum or 0 | find the smallest or 0 | pick the least or 0
count: ints -> int: len({x})
    count the numbers | take the list length | find how many numbers there are
count_even: ints -> int: sum({v} % 2 == 0 for {v} in {x})
    count the even numbers | find how many are even | take the number of even ones
count_positive: ints -> int: sum({v} > 0 for {v} in {x})
    count the positive numbers | find how many are positive | take the number of positive ones
count_above: ints -> int: sum({v} > {k} for {v} in {x})
    count numbers above {k} | find how many exceed {k} | count those greater than {k}
count_value: ints -> int: {x}.count({k})
    count how often {k} occurs | count numbers equal to {k} | find how many are {k}
count_distinct: ints -> int: len(set({x}))
    count the distinct numbers | find how many distinct numbers | count numbers without duplicates
first_number: ints -> int: {x}[0] if {x} else 0
    take the first number or 0 | pick the leading number or 0 | get the number at the start or 0
last_number: ints -> int: {x}[-1] if {x} else 0
    take the last number or 0 | pick the final number or 0 | get the number at the end or 0
spread: ints -> int: max({x}, default=0) - min({x}, default=0)
    take maximum minus minimum | find largest minus smallest | subtract the least from the biggest
sum_squares: ints -> int: sum({v} * {v} for {v} in {x})
    sum their squares | take the sum of squares | add up the squares
sum_absolute: ints -> int: sum(abs({v}) for {v} in {x})
    sum absolute values | add them up without signs | add up absolute values
numbers_to_text: ints -> str: ",".join(str({v}) for {v} in {x})
    join numbers with commas | write numbers separated by commas | write as comma text
number_strings: ints -> strs: [str({v}) for {v} in {x}]
    turn each number into a string | write each number as text | convert numbers to strings
number_counts: ints -> dict: {{str({v}): {x}.count({v}) for {v} in {x}}}
    map each number as text to its count | count each number by its text | tally numbers as strings
add: int -> int: {x} + {k}
    add {k} to it | increase the number by {k} | go up by {k}
subtract: int -> int: {x} - {k}
    subtract {k} from it | decrease the number by {k} | go down by {k}
multiply: int -> int: {x} * {k}
    multiply it by {k} | take {k} times the number | scale the number by {k}
divide: int -> int: {x} // {k}
    floor divide it by {k} | take its quotient by {k} | divide it by {k} rounding down
modulo: int -> int: {x} % {k}
    take it modulo {k} | take its remainder by {k} | reduce it modulo {k}
square: int -> int: {x} * {x}
    square it | multiply it by itself | take the square of the number
negate: int -> int: -{x}
    negate it | flip its sign | take 0 minus the number
absolute: int -> int: abs({x})
    take its absolute value | drop its sign | make the number absolute
at_least: int -> int: max({x}, {k})
    make it at least {k} | raise it to {k} if lower | take the larger of it and {k}
at_most: int -> int: min({x}, {k})
    make it at most {k} | lower it to {k} if higher | take the smaller of it and {k}
digit_sum: int -> int: sum(int({v}) for {v} in str(abs({x})))
    sum its digits | add up its digits | take the digit sum
digit_count: int -> int: len(str(abs({x})))
    count its digits | find how many digits it has | take its number of digits
digits: int -> ints: [int({v}) for {v} in str(abs({x}))]
    list its digits | split it into digits | make a list of its digits
multiples: int -> ints: [{x} * {v} for {v} in range({k})]
    list its products with range {k} | multiply it by each of range {k} | list range {k} times it
divisors: int -> ints: [{v} for {v} in range(1, 10) if {x} % {v} == 0]
    list its divisors below 10 | list digits that divide it | find one-digit divisors
number_to_text: int -> str: str({x})
    turn it into a string | write it as text | convert the number to text
binary: int -> str: format({x}, "b")
    write it in binary | convert it to binary text | take its binary digits
upper: str -> str: {x}.upper()
    convert it to upper case | make the text upper case | capitalize all letters
lower: str -> str: {x}.lower()
    convert it to lower case | make the text lower case | make all letters small
swap_case: str -> str: {x}.swapcase()
    swap its case | swap upper and lower case | invert the case of the text
reverse_text: str -> str: {x}[::-1]
    reverse the text | write it backwards | flip the order of characters
remove_spaces: str -> str: {x}.replace(" ", "")
    remove the spaces | delete all spaces | drop every space
dash_spaces: str -> str: {x}.replace(" ", "-")
    replace spaces by dashes | turn spaces into dashes | put a dash for each space
remove_vowels: str -> str: "".join({v} for {v} in {x} if {v} not in "aeiouAEIOU")
    remove the vowels | delete a, e, i, o and u | drop every vowel
keep_letters: str -> str: "".join({v} for {v} in {x} if {v}.isalpha())
    keep only letters | drop what is not a letter | select the letters
first_characters: str -> str: {x}[:{k}]
    keep the first {k} characters | cut the text after {k} | take {k} leading characters
last_characters: str -> str: {x}[-{k}:]
    keep the last {k} characters | take the text's final {k} | take {k} trailing characters
skip_characters: str -> str: {x}[{k}:]
    drop the first {k} characters | start the text after {k} | skip {k} characters
sort_characters: str -> str: "".join(sorted({x}))
    sort the characters | order its characters | put the characters in order
unique_characters: str -> str: "".join(dict.fromkeys({x}))
    remove duplicate characters | keep first uses of characters | drop repeated characters
text_length: str -> int: len({x})
    take the text length | count the characters | find how long the text is
count_vowels: str -> int: sum({v} in "aeiouAEIOU" for {v} in {x})
    count the vowels | find how many vowels it has | take its number of vowels
count_spaces: str -> int: {x}.count(" ")
    count the spaces | find how many spaces it has | take its number of spaces
count_words: str -> int: len({x}.split())
    count the words | find how many words it has | take its number of words
count_upper: str -> int: sum({v}.isupper() for {v} in {x})
    count upper case letters | find how many letters are upper case | count its capitals
words: str -> strs: {x}.split()
    split it into words | list its words | break the text at spaces
characters: str -> strs: list({x})
    list its characters | split it into characters | make a list of characters
word_lengths: str -> ints: [len({v}) for {v} in {x}.split()]
    list its word lengths | take the length of each word | measure each word
code_points: str -> ints: [ord({v}) for {v} in {x}]
    list its code points | turn characters into codes | take the code of each character
character_counts: str -> dict: {{{v}: {x}.count({v}) for {v} in {x}}}
    map each character to its count | tally the characters | count characters by character
upper_each: strs -> strs: [{v}.upper() for {v} in {x}]
    make each string upper case | upper case all strings | capitalize every string fully
lower_each: strs -> strs: [{v}.lower() for {v} in {x}]
    make each string lower case | lower case all strings | make every string small
reverse_each: strs -> strs: [{v}[::-1] for {v} in {x}]
    reverse each string | write each string backwards | flip the letters of each string
cut_each: strs -> strs: [{v}[:{k}] for {v} in {x}]
    cut each string after {k} | shorten strings to {k} characters | keep {k} characters of each
keep_longer: strs -> strs: [{v} for {v} in {x} if len({v}) > {k}]
    keep strings longer than {k} | select strings over length {k} | drop strings up to length {k}
keep_shorter: strs -> strs: [{v} for {v} in {x} if len({v}) < {k}]
    keep strings shorter than {k} | select strings under length {k} | drop strings from length {k}
sort_strings: strs -> strs: sorted({x})
    sort the strings | put strings in order | order the strings
sort_by_length: strs -> strs: sorted({x}, key=len)
    sort strings by length | order strings from short to long | put short strings first
reverse_strings: strs -> strs: {x}[::-1]
    reverse the list of strings | put the last string first | flip the string order
unique_strings: strs -> strs: list(dict.fromkeys({x}))
    remove duplicate strings | drop repeated strings | keep first uses of strings
first_strings: strs -> strs: {x}[:{k}]
    keep the first {k} strings | take {k} leading strings | cut after {k} strings
skip_strings: strs -> strs: {x}[{k}:]
    drop the first {k} strings | skip {k} strings | leave out {k} leading strings
join_spaces: strs -> str: " ".join({x})
    join strings with spaces | put spaces between strings | join with a space
join_dashes: strs -> str: "-".join({x})
    join strings with dashes | put dashes between strings | join with a dash
longest: strs -> str: max({x}, key=len, default="")
    take the longest string or empty | pick the first longest or empty | find the longest or empty
shortest: strs -> str: min({x}, key=len, default="")
    take the shortest string or empty | pick the shortest or empty | find the least long or empty
lengths: strs -> ints: [len({v}) for {v} in {x}]
    take string lengths | replace strings by lengths | measure each string
count_strings: strs -> int: len({x})
    count the strings | find how many strings there are | take the number of strings
total_length: strs -> int: sum(len({v}) for {v} in {x})
    sum string lengths | add up the string lengths | count characters of all strings
length_by_string: strs -> dict: {{{v}: len({v}) for {v} in {x}}}
    map each string to its length | make a dict of string lengths | index lengths by string
string_counts: strs -> dict: {{{v}: {x}.count({v}) for {v} in {x}}}
    map each string to its count | count strings by string | tally the strings
keep_values_above: dict -> dict: {{{v}: {x}[{v}] for {v} in {x} if {x}[{v}] > {k}}}
    keep values above {k} | keep entries with value over {k} | drop entries with value up to {k}
keep_values_below: dict -> dict: {{{v}: {x}[{v}] for {v} in {x} if {x}[{v}] < {k}}}
    keep values below {k} | keep entries with value under {k} | drop entries with value {k} or more
keep_short_keys: dict -> dict: {{{v}: {x}[{v}] for {v} in {x} if len({v}) < {k}}}
    keep keys shorter than {k} | select keys under length {k} | drop keys from length {k}
add_values: dict -> dict: {{{v}: {x}[{v}] + {k} for {v} in {x}}}
    add {k} to each value | increase each value by {k} | raise all values by {k}
multiply_values: dict -> dict: {{{v}: {x}[{v}] * {k} for {v} in {x}}}
    multiply each value by {k} | scale each value by {k} | take {k} times each value
negate_values: dict -> dict: {{{v}: -{x}[{v}] for {v} in {x}}}
    negate each value | flip the sign of each value | change the sign of all values
values: dict -> ints: sorted({x}.values())
    list the sorted values | sort the values | take the values in order
keys: dict -> strs: sorted({x})
    list the sorted keys | sort the keys | take the keys in order
sum_values: dict -> int: sum({x}.values())
    sum the values | add up the values | take the total of the values
max_value: dict -> int: max({x}.values(), default=0)
    take the largest value or 0 | find the maximum value or 0 | pick the top value or 0
count_keys: dict -> int: len({x})
    count the keys | find how many keys there are | count the entries
best_key: dict -> str: max(sorted({x}), key={x}.get, default="")
    take the key of the top value or empty | find the best key or empty | pick the top key or empty
"""


@cache
def load_operations() -> tuple[Operation, ...]:
    """Read the table."""
    lines = TABLE.splitlines()
    operations = []
    for header, wordings in zip(lines[::2], lines[1::2], strict=True):
        name, kinds, expression = header.split(": ", maxsplit=2)
        source, target = kinds.split(" -> ")
        operations.append(
            Operation(
                name=name,
                source=cast(Kind, source),
                target=cast(Kind, target),
                expression=expression,
                wordings=tuple(wordings.strip().split(" | ")),
                has_constant="{k}" in expression,
            )
        )
    return tuple(operations)


@cache
def list_operations(source: Kind, targets: tuple[Kind, ...] = KINDS) -> tuple[Operation, ...]:
    """Operations that take `source` and give one of `targets`, in table order."""
    return tuple(op for op in load_operations() if op.source == source and op.target in targets)
