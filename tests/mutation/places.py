"""Places where a module can be broken, by cosmic-ray's operators and one of our own, and the mutants of each."""

from __future__ import annotations

import ast
import difflib
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, NamedTuple

import parso
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators import (
    binary_operator_replacement,
    boolean_replacer,
    break_continue,
    comparison_operator_replacement,
    exception_replacer,
    number_replacer,
    remove_decorator,
    unary_operator_replacement,
    zero_iteration_for_loop,
)
from cosmic_ray.operators.operator import Operator


class RemoveStatement(Operator):  # type: ignore[misc]
    """Removes a call that stands alone, or a raise. cosmic-ray has no such operator."""

    def mutation_positions(self, node: Any) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
        """The whole statement."""
        call = node.type in ("atom_expr", "power") and node.children[-1].type == "trailer"
        if node.parent is not None and node.parent.type == "simple_stmt" and (call or node.type == "raise_stmt"):
            yield node.start_pos, node.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        """The statement `pass` in its place."""
        return parso.python.tree.Keyword("pass", node.start_pos, prefix=node.get_first_leaf().prefix)

    @classmethod
    def examples(cls) -> Iterable[Any]:
        """None."""
        return ()


SWAPS = {
    "ReplaceBinaryOperator": (
        "Add_Sub Sub_Add Mul_Div Div_Mul FloorDiv_Div Mod_FloorDiv Pow_Mul LShift_RShift RShift_LShift BitOr_BitAnd "
        "BitAnd_BitOr BitXor_BitOr"
    ),
    "ReplaceComparisonOperator": (
        "Eq_NotEq NotEq_Eq Lt_LtE LtE_Lt Gt_GtE GtE_Gt Lt_Gt Gt_Lt LtE_GtE GtE_LtE Is_IsNot IsNot_Is"
    ),
    "ReplaceUnaryOperator": "USub_UAdd Delete_Not Delete_Invert",
}
"""Of cosmic-ray's pairs of operators those that are close; many others only raise a TypeError."""

OPERATORS: tuple[type[Operator], ...] = (
    *(
        operator
        for operator in chain(
            binary_operator_replacement.operators(),
            comparison_operator_replacement.operators(),
            unary_operator_replacement.operators(),
        )
        for kind, _, pair in [operator.__name__.partition("_")]
        if pair in SWAPS[kind].split()
    ),
    boolean_replacer.AddNot,
    boolean_replacer.ReplaceTrueWithFalse,
    boolean_replacer.ReplaceFalseWithTrue,
    boolean_replacer.ReplaceAndWithOr,
    boolean_replacer.ReplaceOrWithAnd,
    break_continue.ReplaceBreakWithContinue,
    break_continue.ReplaceContinueWithBreak,
    exception_replacer.ExceptionReplacer,
    number_replacer.NumberReplacer,
    remove_decorator.RemoveDecorator,
    zero_iteration_for_loop.ZeroIterationForLoop,
    RemoveStatement,
)


class Mutant(NamedTuple):
    """A module with one change.

    removed, added: the lines that differ, without their indentation; together they name the mutant in a list that
    outlives changes elsewhere in the file.
    """

    path: str
    line: int
    operator: str
    source: str
    removed: str
    added: str

    def __str__(self) -> str:
        changed = [f"- {line}" for line in self.removed.splitlines()] + [
            f"+ {line}" for line in self.added.splitlines()
        ]
        return "\n".join([f"{self.path}:{self.line} {self.operator}", *(f"    {line}" for line in changed)])


class Place(NamedTuple):
    """A position in a module, and the operators that can change it, each with the number of its occurrence."""

    path: str
    line: int
    column: int
    choices: tuple[tuple[type[Operator], int], ...]

    def mutant(self, source: str, chosen: random.Random) -> Mutant | None:
        """One of the mutants; None if all do the same as the source when they run."""
        before = essence(source)
        for operator, occurrence in chosen.sample(self.choices, len(self.choices)):
            changed = mutate_code(source, operator(), occurrence)
            try:
                if changed is not None and essence(changed) != before:
                    removed, added = _difference(source, changed)
                    return Mutant(self.path, self.line, operator.__name__, changed, removed, added)
            except SyntaxError:
                continue
        return None


def places(path: str, source: str) -> list[Place]:
    """All places of a module, from top to bottom."""
    nodes = list(ast_nodes(get_ast(source)))
    found: dict[tuple[int, int], list[tuple[type[Operator], int]]] = defaultdict(list)
    for operator in OPERATORS:
        positions = (start for node in nodes for start, _ in operator().mutation_positions(node))
        for occurrence, start in enumerate(positions):
            found[start].append((operator, occurrence))
    return [Place(path, line, column, tuple(found[line, column])) for line, column in sorted(found)]


def essence(source: str) -> str:
    """The syntax tree without what a test cannot notice.

    That is annotations, imports for types, lines of the debug log, and zip's `strict`, an assertion of the code's own.
    """
    return ast.dump(_Bare().visit(ast.parse(source)))


class _Bare(ast.NodeTransformer):
    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.annotation = ast.Constant(None)
        return self.generic_visit(node)

    def visit_If(self, node: ast.If) -> ast.AST:
        for_types = ast.unparse(node.test) in ("TYPE_CHECKING", "not TYPE_CHECKING")
        return ast.Pass() if for_types else self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        node.keywords = [keyword for keyword in node.keywords if keyword.arg != "strict"]
        return self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        logs = isinstance(node.value, ast.Call) and ast.unparse(node.value.func) == "debug"
        return ast.Pass() if logs else self.generic_visit(node)


def _difference(source: str, changed: str) -> tuple[str, str]:
    lines = list(difflib.unified_diff(source.splitlines(), changed.splitlines(), n=0, lineterm=""))[2:]
    removed, added = ("\n".join(line[1:].strip() for line in lines if line.startswith(sign)) for sign in "-+")
    return removed, added
