from typing import Literal

Precision = Literal["auto", "fp32", "tf32", "bf16", "fp16"]
"""Names of number formats."""
