from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from robustkit.pipeline.message import packed, unpacked

_PLAIN = st.dictionaries(st.text(), st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.integers()))


@given(_PLAIN, st.lists(st.binary(), max_size=5))
def test_what_is_packed_comes_out(plain: dict[str, object], parts: list[bytes]) -> None:
    assert unpacked(packed(plain, parts)) == (plain, parts)
