from __future__ import annotations

from tests.providers.conftest import thin_cloud
from tests.store.conftest import ministack_url

__all__ = ["ministack_url", "thin_cloud"]
