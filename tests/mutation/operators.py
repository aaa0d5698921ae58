"""Mutants of a source file: comparisons, Boolean logic, guards, numbers, arithmetic, arguments, statements.

Text is never mutated: no docstrings, log calls, messages, annotations, decorators.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change of one file; `start` and `end` are byte offsets into its UTF-8 text."""

    path: str
    line: int
    kind: str
    start: int
    end: int
    text: str

    def apply(self, source: bytes) -> bytes:
        """The file's text with the change in it."""
        return source[: self.start] + self.text.encode() + source[self.end :]

    def diff(self, source: bytes) -> tuple[str, str]:
        """The first changed line before and after."""
        before, after = source.decode().splitlines(), self.apply(source).decode().splitlines()
        line = next((k for k, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), self.line - 1)
        return before[line].strip(), after[line].strip()


_COMPARISONS: Final[dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
}
_ARITHMETIC: Final[dict[type[ast.operator], type[ast.operator]]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
}
_CALLS: Final = {"min": "max", "max": "min", "any": "all", "all": "any"}
_LOG_METHODS: Final = frozenset({"debug", "info", "warning", "error", "exception", "critical"})
_NEUTRAL_KEYWORDS: Final = frozenset({"strict", "slots", "frozen", "encoding", "kw_only", "repr", "name", "doc", "dtype"})
"""Arguments whose absence no behaviour shows, or that a type checker answers for."""


def mutants(path: str, source: bytes) -> list[Mutant]:
    """Every mutant of the file, in the order of its lines."""
    finder = _Finder(path, source)
    finder.visit(ast.parse(source))
    return sorted(finder.found, key=lambda one: (one.start, one.kind, one.text))


class _Finder(ast.NodeVisitor):
    def __init__(self, path: str, source: bytes) -> None:
        self.found: list[Mutant] = []
        self._path = path
        self._source = source
        self._lines = [0]
        for line in source.splitlines(keepends=True):
            self._lines.append(self._lines[-1] + len(line))

    def _add(self, node: ast.expr | ast.stmt, kind: str, text: str) -> None:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        start = self._lines[node.lineno - 1] + node.col_offset
        end = self._lines[node.end_lineno - 1] + node.end_col_offset
        self.found.append(Mutant(self._path, node.lineno, kind, start, end, text))

    def _replace(self, node: ast.expr, kind: str, new: ast.expr) -> None:
        self._add(node, kind, f"({ast.unparse(ast.fix_missing_locations(new))})")

    # what is left as it is

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Messages stay, and Python 3.11 does not say where the parts of an f-string lie."""

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        for default in [*node.args.defaults, *node.args.kw_defaults]:
            if default is not None:
                self.visit(default)
        self._body(node.body)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._body(node.body)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self.visit(node.body)

    def _body(self, statements: list[ast.stmt]) -> None:
        for statement in statements:
            self.visit(statement)

    # statements

    def visit_If(self, node: ast.If) -> None:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return
        leaves = isinstance(node.body[-1], ast.Return | ast.Raise | ast.Continue | ast.Break)
        if leaves and not node.orelse:
            self._add(node, "guard dropped", "pass")
        self._negated(node.test)
        self.generic_visit(node)

    def visit_While(self, node: ast.While) -> None:
        self._negated(node.test)
        self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self._negated(node.test)
        self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        for test in node.ifs:
            self._negated(test)
        self.generic_visit(node)

    def _negated(self, test: ast.expr) -> None:
        if not isinstance(test, ast.Compare | ast.BoolOp | ast.UnaryOp | ast.Constant):
            self._replace(test, "condition negated", ast.UnaryOp(ast.Not(), test))

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Constant) or _is_log_call(node.value):
            return
        if isinstance(node.value, ast.Call):
            self._add(node, "statement dropped", "pass")
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        if any(isinstance(target, ast.Attribute | ast.Subscript) for target in node.targets):
            self._add(node, "statement dropped", "pass")
        if not any(isinstance(target, ast.Name) and target.id.startswith("__") for target in node.targets):
            self.visit(node.value)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._add(node, "statement dropped", "pass")
        self.visit(node.value)

    def visit_Assert(self, node: ast.Assert) -> None:
        """An assertion helps the type checker; the product does not rest on it."""

    def visit_Raise(self, node: ast.Raise) -> None:
        self._add(node, "statement dropped", "pass")
        if node.exc is not None:
            self.generic_visit(node)

    # expressions

    def visit_Compare(self, node: ast.Compare) -> None:
        for k, operator in enumerate(node.ops):
            for other in _COMPARISONS[type(operator)]:
                ops = [*node.ops[:k], other(), *node.ops[k + 1 :]]
                self._replace(node, "comparison", ast.Compare(node.left, ops, node.comparators))
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        self._replace(node, "and/or", ast.BoolOp(other, node.values))
        for k in range(len(node.values)):
            rest = node.values[:k] + node.values[k + 1 :]
            self._replace(node, "condition dropped", rest[0] if len(rest) == 1 else ast.BoolOp(node.op, rest))
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.Not):
            self._replace(node, "not dropped", node.operand)
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        other = _ARITHMETIC.get(type(node.op))
        if other is not None and not (_is_text(node.left) or _is_text(node.right)):
            self._replace(node, "arithmetic", ast.BinOp(node.left, other(), node.right))
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        if _is_log_call(node):
            return
        if isinstance(node.func, ast.Name) and node.func.id in _CALLS:
            name = ast.Name(_CALLS[node.func.id], ast.Load())
            self._replace(node, "call", ast.Call(name, node.args, node.keywords))
        for k, keyword in enumerate(node.keywords):
            if keyword.arg is not None and keyword.arg not in _NEUTRAL_KEYWORDS:
                rest = node.keywords[:k] + node.keywords[k + 1 :]
                self._replace(node, "argument dropped", ast.Call(node.func, node.args, rest))
        for child in [node.func, *node.args, *(k.value for k in node.keywords if k.arg not in _NEUTRAL_KEYWORDS)]:
            self.visit(child)

    def visit_Constant(self, node: ast.Constant) -> None:
        value = node.value
        if isinstance(value, bool):
            self._add(node, "Boolean", str(not value))
        elif isinstance(value, int):
            self._add(node, "number", str(value + 1))
            self._add(node, "number", f"({value - 1})")
        elif isinstance(value, float) and value not in (float("inf"), float("-inf")):
            larger, smaller = (value * 2, value / 2) if value else (1.0, -1.0)
            self._add(node, "number", f"{larger!r}")
            self._add(node, "number", f"({smaller!r})")


def _is_log_call(node: ast.expr) -> bool:
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _LOG_METHODS):
        return False
    receiver = node.func.value
    while isinstance(receiver, ast.Call | ast.Attribute):
        receiver = receiver.func if isinstance(receiver, ast.Call) else receiver.value
    return isinstance(receiver, ast.Name) and "log" in receiver.id.lower()


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr | ast.List) or (isinstance(node, ast.Constant) and isinstance(node.value, str | bytes))
