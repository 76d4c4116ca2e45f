from __future__ import annotations

import pytest
from django.test import TestCase


@pytest.mark.max_borrows(1)
async def test_coroutine():
    pass


@pytest.mark.no_session_state
class TestOfUnittest(TestCase):
    def test_it(self):
        pass
