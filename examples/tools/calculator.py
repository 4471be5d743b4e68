"""Arithmetic without `eval`: what a model writes is never run as code."""

import ast
import math
import operator
from collections.abc import Callable

MAX_LENGTH = 200
# All numbers are floats: no power makes one that takes minutes and gigabytes.
OPERATORS: dict[type[ast.AST], Callable[..., float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Mod: operator.mod,
    ast.Pow: math.pow,
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
}
FUNCTIONS: dict[str, Callable[..., float]] = {
    "abs": abs,
    "exp": math.exp,
    "floor": math.floor,
    "log": math.log,
    "max": max,
    "min": min,
    "sqrt": math.sqrt,
}
CONSTANTS = {"e": math.e, "pi": math.pi}


def evaluate(expression: str) -> float:
    """The value of an expression such as `2 * (3 + sqrt(16))`.

    :raises ValueError: it is none, or has no value.
    """
    if len(expression) > MAX_LENGTH:
        raise ValueError(f"An expression has at most {MAX_LENGTH} characters.")
    try:
        value = _value(ast.parse(expression.strip(), mode="eval").body)
    except SyntaxError:
        raise ValueError("This is no arithmetic expression.") from None
    except (ArithmeticError, TypeError) as error:
        raise ValueError(f"This has no value: {error}.") from None
    if not math.isfinite(value):
        raise ValueError("The result is too large.")
    return value


def _value(node: ast.expr) -> float:
    match node:
        case ast.Constant(value=int() | float() as number):
            return float(number)
        case ast.Name(id=name) if name in CONSTANTS:
            return CONSTANTS[name]
        case ast.BinOp(left, operation, right) if type(operation) in OPERATORS:
            return OPERATORS[type(operation)](_value(left), _value(right))
        case ast.UnaryOp(operation, operand) if type(operation) in OPERATORS:
            return OPERATORS[type(operation)](_value(operand))
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in FUNCTIONS:
            return float(FUNCTIONS[name](*map(_value, arguments)))
    raise ValueError(f"{ast.unparse(node)} can't be used here.")
