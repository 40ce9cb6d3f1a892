"""Shapes of tensors in signatures: `Float[Tensor, "N D"]` is a `Tensor` for the interpreter and for type checkers.

A test puts jaxtyping's types of the same names in their place and checks the calls it makes. A letter is one size in a
signature: n or B images, S tokens of a state, N patch tokens, D entries of a token, K classes, F features. A name alone
begins with a space, or linters would take it for a type. `*P` is any
number of sizes, of patches; `Shaped` is of any dtype.
"""

from typing import Annotated as Bool
from typing import Annotated as Float
from typing import Annotated as Int
from typing import Annotated as Shaped
from typing import Annotated as UInt8

__all__ = ["Bool", "Float", "Int", "Shaped", "UInt8"]
